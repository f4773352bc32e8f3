"""tidb_py/parser."""
