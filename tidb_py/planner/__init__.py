"""tidb_py/planner"""
