"""Who detects deadlocks: told by the store's own peers first, by PD otherwise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from protos.kvproto import metapb_pb2
from tikv_py.deadlock.leader import DetectorLeader


def peer(region_id: int, start_key: bytes, *, leader_id: int, leads: bool = False, initialized: bool = True) -> Any:
    region = metapb_pb2.Region(id=region_id, start_key=start_key)
    for store_id in (1, 2, 3):
        region.peers.add(id=10 + store_id, store_id=store_id)
    return SimpleNamespace(
        region=region,
        is_leader=leads,
        destroyed=False,
        storage=SimpleNamespace(is_initialized=initialized),
        node=SimpleNamespace(leader_id=leader_id),
    )


class Pd:
    """Knows store 7 as the leader of the first region."""

    def __init__(self, store_id: int | None = 7) -> None:
        self.asked: list[bytes] = []
        self._store_id = store_id

    async def get_region(self, key: bytes) -> Any:
        self.asked.append(key)
        if self._store_id is None:
            return None
        return SimpleNamespace(leader=metapb_pb2.Peer(id=70, store_id=self._store_id))


def leader_of(pd: Pd, *peers: Any) -> tuple[DetectorLeader, dict[int, Any]]:
    store: Any = SimpleNamespace(peers={one.region.id: one for one in peers})
    return DetectorLeader(store, pd), store.peers  # type: ignore[arg-type]


async def test_a_replica_of_the_first_region_knows_without_asking() -> None:
    pd = Pd()
    leader, _ = leader_of(pd, peer(5, b"m", leader_id=11), peer(4, b"", leader_id=12))
    assert await leader.store_id() == 2
    assert pd.asked == []


async def test_without_a_replica_or_a_leader_pd_is_asked() -> None:
    pd = Pd()
    for peers in ([peer(5, b"m", leader_id=11)], [peer(4, b"", leader_id=0)]):
        leader, _ = leader_of(pd, *peers)
        assert await leader.store_id() == 7
    assert pd.asked == [b"", b""]
    leader, _ = leader_of(Pd(None))
    assert await leader.store_id() == 0


def test_leading_follows_the_region_that_begins_the_keys() -> None:
    first, other = peer(4, b"", leader_id=11, leads=True), peer(5, b"m", leader_id=11, leads=True)
    new = peer(6, b"", leader_id=0, initialized=False)
    leader, peers = leader_of(Pd(), new, first, other)
    assert leader.refresh()
    assert leader.is_here
    assert not leader.refresh(), "nothing changed"
    assert leader.concerns(first)
    assert not leader.concerns(other)
    first.region.start_key = b"c"  # split: the part that keeps the empty key is another region
    assert leader.concerns(first), "the one it was is told of"
    assert leader.refresh()
    assert not leader.is_here
    peers[7] = peer(7, b"", leader_id=11, leads=True)
    assert leader.refresh()
    assert leader.is_here
    del peers[7]
    assert leader.refresh()
    assert not leader.is_here
