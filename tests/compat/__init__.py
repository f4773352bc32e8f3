"""tests/compat"""
