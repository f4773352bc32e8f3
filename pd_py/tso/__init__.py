"""Timestamps: strictly increasing, durable upper bound, batched."""
