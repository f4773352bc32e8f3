"""Codec tests."""
