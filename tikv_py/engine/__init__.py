"""tikv_py/engine"""
