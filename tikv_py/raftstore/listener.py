"""What the rest of a store hears from its loop.

Why an object and not callbacks: whoever listens (the worker that speaks to PD, a simulation) overrides what concerns it. Calls come
from inside a turn, so they must be short and must not wait.
"""

from __future__ import annotations

from protos.kvproto import metapb_pb2
from tikv_py.raftstore.peer import Peer


class StoreListener:
    """What the rest of the store hears from the loop. The default hears nothing."""

    def on_role_change(self, peer: Peer) -> None:
        """A peer gained or lost leadership."""

    def on_region_change(self, peer: Peer) -> None:
        """A leader's region was split or changed members."""

    def on_split(self, regions: list[metapb_pb2.Region], *, is_leader: bool) -> None:
        """A region was split into these."""

    def on_destroy(self, region_id: int) -> None:
        """A peer is gone from this store."""

    def on_apply(self, peer: Peer, entries: int) -> None:
        """Entries were applied."""

    def on_channel_full(self, kind: str) -> None:
        """A message was dropped because a queue was full: "store" (to the loop) or "raft" (to another store)."""
