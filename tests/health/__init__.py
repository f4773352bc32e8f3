"""tests/health"""
