"""Raw keys and values, without transactions."""
