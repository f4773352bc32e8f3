"""tikv_py/mvcc"""
