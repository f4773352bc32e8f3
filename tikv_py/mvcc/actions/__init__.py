"""One Percolator action per module."""
