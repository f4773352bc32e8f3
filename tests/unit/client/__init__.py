"""Tests of the TiKV client on a fake cluster and virtual time."""
