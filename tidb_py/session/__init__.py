"""tidb_py/session"""
