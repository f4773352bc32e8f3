"""tidb_py/catalog"""
