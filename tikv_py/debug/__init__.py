"""Looking into a store below raft: what its databases hold, and repairs of a stopped one."""
