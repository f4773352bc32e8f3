"""tidb_py/ddl."""
