"""kvproto-compatible definitions: PD, stores, raft, coprocessor envelopes."""
