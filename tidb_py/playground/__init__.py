"""A whole cluster on one machine with one command: planned, started, watched, stopped."""
