"""tidb_py/executor."""
