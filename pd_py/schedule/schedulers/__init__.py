"""One balancing rule over the whole cluster per module."""
