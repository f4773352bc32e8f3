"""tidb_py/statistics."""
