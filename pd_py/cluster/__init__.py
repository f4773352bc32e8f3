"""pd_py/cluster"""
