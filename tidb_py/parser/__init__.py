"""tidb_py/parser"""
