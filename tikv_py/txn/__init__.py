"""tikv_py/txn"""
