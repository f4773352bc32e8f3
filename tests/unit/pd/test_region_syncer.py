"""A follower's copy of the leader's regions: complete, following, and begun again when it cannot be continued."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from core_py.ports import Service
from core_py.runtime.tasks import TaskScope
from core_py.sim.loop import run_virtual
from core_py.sim.network import MemoryNetwork
from pd_py.cluster import region_syncer
from pd_py.cluster.cluster import new_regions
from pd_py.cluster.convert import region_pb
from pd_py.cluster.region_follower import RegionFollower, StaleRegions
from pd_py.cluster.region_syncer import RegionHistory, RegionSyncer
from pd_py.cluster.regions import Regions
from pd_py.schedule.options import ScheduleOptions
from pd_py.schedule.view import PeerView, RegionView
from protos.kvproto import metapb_pb2, pdpb_pb2

CLUSTER_ID = 7
PEERS = (PeerView(11, 1), PeerView(12, 2), PeerView(13, 3))


def region(number: int, version: int = 1, leader: int = 1) -> RegionView:
    return RegionView(number + 1, b"%06d" % number, b"%06d" % (number + 1), 1, version, PEERS, leader)


def heartbeat(regions: Regions, view: RegionView, *, down_s: int = 0) -> None:
    peer = view.on_store(view.leader_store_id)
    assert peer is not None
    leader = metapb_pb2.Peer(id=peer.peer_id, store_id=peer.store_id)
    request = pdpb_pb2.RegionHeartbeatRequest(
        region=region_pb(view), leader=leader, bytes_written=5, approximate_size=9
    )
    if down_s:
        request.down_peers.add(peer=metapb_pb2.Peer(id=12, store_id=2), down_seconds=down_s)
        request.pending_peers.add(id=13, store_id=3)
    assert regions.heartbeat(request, 0.0) is not None


class World:
    """Two possible leaders and one follower."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.leader = ""
        self.copy = new_regions(ScheduleOptions())
        self.scope = TaskScope("test")
        self.follower = RegionFollower(
            self.copy,
            self.network.transport("follower"),
            pdpb_pb2.Member(name="follower"),
            lambda: self.leader,
            lambda: CLUSTER_ID,
        )

    async def lead(self, name: str, regions: Regions, term: int) -> RegionSyncer:
        """Have a member lead."""
        syncer = RegionSyncer(regions, CLUSTER_ID, term)
        service = Service(pdpb_pb2.DESCRIPTOR.services_by_name["PD"], {"SyncRegions": syncer.serve})
        await self.network.transport(name).serve(f"{name}:1", [service])
        self.leader = f"{name}:1"
        return syncer


def seen(regions: Regions) -> list[RegionView]:
    """What a copy must agree in."""
    return [replace(one, term=0, size_bytes=0, keys=0, interval_s=0) for one in regions.tree.all()]


def test_a_copy_is_complete_and_follows() -> None:
    async def main() -> None:
        world, own = World(), new_regions(ScheduleOptions())
        for number in range(2500):
            heartbeat(own, region(number))
        await world.lead("one", own, term=3)
        world.scope.spawn(world.follower.run())
        await asyncio.sleep(1)
        assert world.follower.is_synced
        assert seen(world.copy) == seen(own)
        heartbeat(own, region(7, version=2, leader=3))
        heartbeat(own, region(8, leader=2), down_s=99)
        heartbeat(own, replace(region(9, version=5), end_key=b"000020"))
        await asyncio.sleep(1)
        assert seen(world.copy) == seen(own)
        assert len(world.copy.tree) == 2490
        assert world.copy.down_seconds(9) == {12: 99}
        heartbeat(own, region(8, leader=2))
        await asyncio.sleep(60)
        assert world.follower.is_synced, "messages come although nothing happens"
        assert world.copy.down_seconds(9) == {}
        world.copy.tree.check_invariants()
        await world.scope.close()

    run_virtual(main())


def test_after_a_break_only_changes_come() -> None:
    async def main() -> None:
        world, own = World(), new_regions(ScheduleOptions())
        for number in range(100):
            heartbeat(own, region(number))
        await world.lead("one", own, term=1)
        task = world.scope.spawn(world.follower.run())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.sleep(1)
        assert not world.follower.is_synced
        heartbeat(own, region(5, version=2))
        taken: list[int] = []
        world.copy.on_change.append(lambda one: taken.append(one.region_id))
        world.scope.spawn(world.follower.run())
        await asyncio.sleep(1)
        assert taken == [6]
        assert world.follower.is_synced
        await world.scope.close()

    run_virtual(main())


def test_another_leader_sends_everything_anew() -> None:
    async def main() -> None:
        world, first, second = World(), new_regions(ScheduleOptions()), new_regions(ScheduleOptions())
        for number in range(50):
            heartbeat(first, region(number))
            heartbeat(second, region(number, version=2, leader=2))
        syncer = await world.lead("one", first, term=1)
        world.scope.spawn(world.follower.run())
        await asyncio.sleep(1)
        assert seen(world.copy) == seen(first)
        await world.lead("two", second, term=2)
        syncer.close()
        await asyncio.sleep(3)
        assert world.follower.is_synced
        assert seen(world.copy) == seen(second)
        await world.scope.close()

    run_virtual(main())


def test_without_a_leader_the_copy_is_not_for_reading() -> None:
    async def main() -> None:
        world, own = World(), new_regions(ScheduleOptions())
        heartbeat(own, region(1))
        syncer = await world.lead("one", own, term=1)
        world.scope.spawn(world.follower.run())
        await asyncio.sleep(1)
        assert world.follower.is_synced
        world.leader = ""
        syncer.close()
        await asyncio.sleep(1)
        assert not world.follower.is_synced
        assert len(world.copy.tree) == 1
        await world.scope.close()

    run_virtual(main())


def test_who_falls_behind_the_history_gets_everything() -> None:
    async def main() -> None:
        world, own = World(), new_regions(ScheduleOptions())
        for number in range(100):
            heartbeat(own, region(number))
        syncer = await world.lead("one", own, term=1)
        syncer._history = RegionHistory(1, size=10)
        world.scope.spawn(world.follower.run())
        await asyncio.sleep(1)
        rng = random.Random(3)
        for version in range(2, 200):
            heartbeat(own, region(rng.randrange(0, 100), version=version))
        await asyncio.sleep(5)
        assert world.follower.is_synced
        assert seen(world.copy) == seen(own)
        await world.scope.close()

    run_virtual(main())


def test_a_change_during_the_first_copy_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region_syncer, "BATCH", 5)

    async def main() -> None:
        world, own = World(), new_regions(ScheduleOptions())
        for number in range(100):
            heartbeat(own, region(number))

        async def change() -> None:
            for version in range(2, 40):
                heartbeat(own, region(version * 2, version=version))
                await asyncio.sleep(0)

        await world.lead("one", own, term=1)
        world.scope.spawn(world.follower.run())
        world.scope.spawn(change())
        await asyncio.sleep(5)
        assert seen(world.copy) == seen(own)
        await world.scope.close()

    run_virtual(main())


def test_strangers_and_foreign_histories_are_refused() -> None:
    async def main() -> None:
        world, own = World(), new_regions(ScheduleOptions())
        heartbeat(own, region(1))
        await world.lead("one", own, term=1)
        world.follower._cluster_id = lambda: CLUSTER_ID + 1
        world.scope.spawn(world.follower.run())
        await asyncio.sleep(1)
        assert len(world.copy.tree) == 0
        await world.scope.close()

    run_virtual(main())
    follower = World().follower
    follower.take(pdpb_pb2.SyncRegionResponse(start_index=500))
    with pytest.raises(StaleRegions):
        follower.take(pdpb_pb2.SyncRegionResponse(start_index=900))
    bad = pdpb_pb2.SyncRegionResponse(start_index=0)
    bad.regions.append(region_pb(replace(region(1), peers=(PEERS[0], PeerView(5, 1)))))
    bad.regions.append(region_pb(region(2)))
    follower.take(bad)
    assert [one.region_id for one in follower._regions.tree.all()] == [3]


def test_a_history_tells_apart_terms_and_what_it_has_forgotten() -> None:
    history = RegionHistory(2, size=4)
    first = history.next
    assert history.since(first, 9) == []
    for number in range(6):
        history.record(region(number))
    assert history.since(first, 9) is None
    assert [one.region_id for one in history.since(first + 3, 2) or []] == [4, 5]
    assert history.since(history.next + 1, 9) is None
    assert RegionHistory(3).since(history.next, 9) is None
    assert history.since(0, 9) is None
