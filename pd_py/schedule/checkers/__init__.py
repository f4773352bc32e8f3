"""One check of a single region per module."""
