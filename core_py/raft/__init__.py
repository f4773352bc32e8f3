"""The pure Raft core: values in, values out; no clock, no disk, no network. Start reading at `node.py` and `ready.py`."""
