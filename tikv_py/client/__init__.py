"""The async TiKV client: PD, regions, raw keys and transactions. Works against any TiKV and PD."""
