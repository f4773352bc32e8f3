"""Unit tests of the Raft core, one file per concept."""
