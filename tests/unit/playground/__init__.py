"""Playground tests."""
