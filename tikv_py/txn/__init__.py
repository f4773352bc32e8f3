"""Commands on regions: latched, read from the leader's state, decided by `tikv_py.mvcc`, written through raft."""
