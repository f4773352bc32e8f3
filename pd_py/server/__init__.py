"""pd_py/server"""
