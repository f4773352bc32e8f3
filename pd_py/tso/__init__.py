"""pd_py/tso"""
