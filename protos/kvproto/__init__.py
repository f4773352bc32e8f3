"""protos/kvproto"""
