"""tidb_py/types"""
