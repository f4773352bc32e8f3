"""tidb_py/catalog."""
