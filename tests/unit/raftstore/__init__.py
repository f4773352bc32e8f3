"""Tests of the raft store."""
