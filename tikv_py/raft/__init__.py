"""tikv_py/raft"""
