"""One workload per module."""
