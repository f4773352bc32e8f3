"""Unit tests of the deadlock detector."""
