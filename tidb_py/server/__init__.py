"""tidb_py/server"""
