"""tidb_py/mysql"""
