"""The catalogue of a store's failpoints: every name there is, where it fires, and what `return` does there.

A name stands at one place in the code and is armed by at least one test; tests/health/test_failpoints.py keeps both. The
sections are the packages the places are in.
"""

from __future__ import annotations

from core_py.failpoints import Point, instant, waiting

TXN: dict[str, Point] = {}

SERVER: dict[str, Point] = {}

COPROCESSOR: dict[str, Point] = {}

RAFTSTORE: dict[str, Point] = {
    "raft_message_send": instant("a raft message is to be queued for its store; return drops it and tells nobody"),
    "raft_queue_full": instant("a raft message meets its store's queue; return finds it full"),
    "raft_stream_send": waiting("a batch of raft messages is about to leave; return breaks the stream under it"),
    "snapshot_send": waiting("the stream for a snapshot is open, nothing sent; return breaks it"),
    "snapshot_send_chunk": waiting("the next chunk of a snapshot is about to leave; return breaks the stream"),
}

POINTS: dict[str, Point] = {**TXN, **SERVER, **COPROCESSOR, **RAFTSTORE}
