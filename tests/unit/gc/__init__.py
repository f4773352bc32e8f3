"""Garbage collection in the stores, without a cluster."""
