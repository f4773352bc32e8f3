"""tidb_py/distsql."""
