"""Benchmarks of single parts inside one process."""
