"""The GC state."""
