"""tidb_py/executor"""
