"""Placement driver: timestamps, cluster metadata, scheduling."""
