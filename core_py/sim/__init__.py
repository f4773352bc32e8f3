"""Simulated adapters of the ports: virtual time, memory network."""
