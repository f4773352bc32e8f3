"""tikv_py/server"""
