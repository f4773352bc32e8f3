"""tikv_py/client"""
