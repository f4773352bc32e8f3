"""tidb_py/distsql"""
