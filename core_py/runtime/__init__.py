"""core_py/runtime"""
