"""Shared kernel of the three servers and the client: errors, ports, codecs, runtime and the simulation adapters."""
