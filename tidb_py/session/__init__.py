"""tidb_py/session."""
