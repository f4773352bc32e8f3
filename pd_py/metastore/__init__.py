"""pd_py/metastore"""
