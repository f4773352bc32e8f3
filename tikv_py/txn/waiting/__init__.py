"""Waiting for locks: queues per key, who is woken when, and running lock requests until they have their lock."""
