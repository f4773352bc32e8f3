"""tidb_py/planner."""
