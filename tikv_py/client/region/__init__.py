"""Where a key lives: the region cache, store addresses, back-off and the request sender."""
