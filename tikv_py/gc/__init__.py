"""Garbage collection of old versions: what a store collects, how far, and who moves the safe point on."""
