"""tidb_py/types."""
