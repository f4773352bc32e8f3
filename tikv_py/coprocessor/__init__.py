"""tikv_py/coprocessor"""
