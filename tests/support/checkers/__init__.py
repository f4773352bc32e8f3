"""Judges of recorded histories."""
