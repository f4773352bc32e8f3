"""tikv_py/raftstore"""
