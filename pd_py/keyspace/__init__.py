"""Keyspaces: this cluster has the DEFAULT one."""
