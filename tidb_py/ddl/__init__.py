"""tidb_py/ddl"""
