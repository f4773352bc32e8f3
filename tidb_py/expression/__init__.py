"""tidb_py/expression."""
