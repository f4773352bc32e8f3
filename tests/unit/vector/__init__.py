"""Tests of the vectorised expressions."""
