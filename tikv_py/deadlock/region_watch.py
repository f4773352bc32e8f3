"""Tells the waits of a store what happens to its regions, beside the listener that the store has already."""

from __future__ import annotations

from collections.abc import Callable

from protos.kvproto import metapb_pb2
from tikv_py.raftstore.listener import StoreListener
from tikv_py.raftstore.peer import Peer


class RegionWatch(StoreListener):
    """Passes everything on to `other`.

    `on_peer` gets a peer whose role, bounds or members changed; `on_gone` the id of a region that left the store.
    """

    def __init__(self, other: StoreListener, on_peer: Callable[[Peer], None], on_gone: Callable[[int], None]) -> None:
        self._other = other
        self._on_peer = on_peer
        self._on_gone = on_gone
        # Those that come with every turn are not passed on by a call of their own.
        self.__dict__.update(on_apply=other.on_apply, on_sync=other.on_sync, on_channel_full=other.on_channel_full)

    def on_role_change(self, peer: Peer) -> None:
        """A peer gained or lost leadership."""
        self._other.on_role_change(peer)
        self._on_peer(peer)

    def on_region_change(self, peer: Peer) -> None:
        """A region was split, merged or changed members."""
        self._other.on_region_change(peer)
        self._on_peer(peer)

    def on_split(self, regions: list[metapb_pb2.Region], *, is_leader: bool) -> None:
        """A region was split."""
        self._other.on_split(regions, is_leader=is_leader)

    def on_destroy(self, region_id: int) -> None:
        """A peer is gone from this store."""
        self._other.on_destroy(region_id)
        self._on_gone(region_id)
