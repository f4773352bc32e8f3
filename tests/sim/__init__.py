"""tests/sim"""
