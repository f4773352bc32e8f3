"""protos/tipb"""
