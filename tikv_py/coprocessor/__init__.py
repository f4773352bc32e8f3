"""Push-down requests: a vectorised MVCC scan under the executors of `core_py.vector`, off the raft loop."""
