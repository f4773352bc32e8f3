"""pd_py/schedule"""
