"""tidb_py/statistics"""
