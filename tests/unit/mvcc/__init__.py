"""MVCC tests."""
