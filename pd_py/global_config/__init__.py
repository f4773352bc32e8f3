"""Settings that servers of the cluster share through PD."""
