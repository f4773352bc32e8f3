"""Many regions on one store: the loop that drives their Raft nodes, applies their logs, splits, creates and destroys them."""
