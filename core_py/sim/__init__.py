"""core_py/sim"""
