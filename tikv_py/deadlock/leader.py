"""Which store detects deadlocks: the one that leads the first region, that is, the region of the empty key.

A store knows this of itself from its own peers, at once and without asking. Of others it takes what its replica of the first
region knows, and without a replica it asks PD.
"""

from __future__ import annotations

from tikv_py.client.pd.client import PdClient
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.store import Store

LEADER_KEY = b""


class DetectorLeader:
    """Follows the leadership of the first region."""

    def __init__(self, store: Store, pd: PdClient) -> None:
        self._store = store
        self._pd = pd
        self._region_id = 0
        self.is_here = False

    def concerns(self, peer: Peer) -> bool:
        """Whether a change of this peer may be one of leadership."""
        return peer.region.id == self._region_id or peer.region.start_key == LEADER_KEY

    def refresh(self) -> bool:
        """Look again at this store's peers; whether leadership came or went."""
        peer = self._peer()
        was_here, self.is_here = self.is_here, peer is not None and peer.is_leader
        return was_here != self.is_here

    async def store_id(self) -> int:
        """The leader's store, 0 when nobody knows one. Raises PdError."""
        peer = self._peer()
        if peer is not None:
            leader_id = peer.node.leader_id
            for member in peer.region.peers:
                if member.id == leader_id:
                    return member.store_id
        found = await self._pd.get_region(LEADER_KEY)
        return 0 if found is None or found.leader is None else found.leader.store_id

    def _peer(self) -> Peer | None:
        """This store's replica of the first region."""
        peers = self._store.peers
        known = peers.get(self._region_id)
        if known is not None and _is_first(known):
            return known
        found = next((peer for peer in peers.values() if _is_first(peer)), None)
        self._region_id = 0 if found is None else found.region.id
        return found


def _is_first(peer: Peer) -> bool:
    return peer.storage.is_initialized and peer.region.start_key == LEADER_KEY and not peer.destroyed
