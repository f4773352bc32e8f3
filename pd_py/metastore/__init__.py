"""PD's durable, replicated key-value store behind a port."""
