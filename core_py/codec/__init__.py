"""core_py/codec"""
