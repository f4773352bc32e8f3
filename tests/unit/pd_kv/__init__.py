"""PD's key-value state."""
