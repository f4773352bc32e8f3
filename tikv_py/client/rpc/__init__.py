"""Connections to stores: many commands on one stream."""
