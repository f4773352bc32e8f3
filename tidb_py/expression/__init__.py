"""tidb_py/expression"""
