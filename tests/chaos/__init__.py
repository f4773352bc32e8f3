"""tests/chaos"""
