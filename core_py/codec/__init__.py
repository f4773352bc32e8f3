"""Byte-exact encodings shared by stores, client and SQL front. Pure functions on bytes and Arrow arrays."""
