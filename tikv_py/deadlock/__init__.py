"""Finding deadlocks between transactions of the whole cluster: the graph, its leader, and the stores that report to it."""
