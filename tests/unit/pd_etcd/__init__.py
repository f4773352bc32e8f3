"""Etcd's interface on PD."""
