"""SQL front: MySQL protocol, parser, planner, executors and the copIterator over the storage nodes."""
