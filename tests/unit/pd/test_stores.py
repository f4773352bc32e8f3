"""Stores: registration, removal, labels, weights; each refusal with the public text, each change durable before it counts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from core_py.errors import NotBootstrapped, PdError, StoreAddressConflict
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from pd_py.cluster.cluster import Cluster
from pd_py.cluster.convert import region_pb
from pd_py.cluster.region_statistics import RegionState
from pd_py.cluster.store_labels import merge, validate
from pd_py.cluster.stores import StoreNotFound, StoreTombstone
from pd_py.cluster.versions import Version
from pd_py.metastore.errors import OutcomeUnknown
from pd_py.schedule.options import ScheduleOptions
from pd_py.schedule.view import ClusterView, FlowKind, KeyRange, PeerKind, PeerView, RegionView, StoreState
from protos.kvproto import metapb_pb2, pdpb_pb2
from tests.support.dict_metadata import DictMetadata

PEERS = tuple(PeerView(10 + store_id, store_id) for store_id in (1, 2, 3))


def meta(store_id: int, **fields: Any) -> metapb_pb2.Store:
    labels = fields.pop("labels", {})
    store = metapb_pb2.Store(id=store_id, address=f"store{store_id}:1", version="8.5.0", **fields)
    for key, value in labels.items():
        store.labels.add(key=key, value=value)
    return store


async def opened(disk: DictMetadata, **options: Any) -> Cluster:
    return await Cluster.open(disk, LoopClock(), random.Random(1), options=ScheduleOptions(**options))


async def with_stores(disk: DictMetadata, count: int, **options: Any) -> Cluster:
    cluster = await opened(disk, **options)
    region = metapb_pb2.Region(id=1)
    region.peers.add(id=11, store_id=1)
    await cluster.bootstrap(meta(1), region)
    for store_id in range(1, count + 1):
        await cluster.put_store(meta(store_id))
    return cluster


def heartbeat(cluster: Cluster, region: RegionView, **fields: Any) -> RegionView | None:
    leader = metapb_pb2.Peer(id=region.peers[0].peer_id, store_id=region.peers[0].store_id)
    request = pdpb_pb2.RegionHeartbeatRequest(region=region_pb(region), leader=leader, term=6, **fields)
    return cluster.region_heartbeat(request)


def check(body: Callable[[DictMetadata], Awaitable[None]]) -> None:
    async def main() -> None:
        await body(DictMetadata())

    run_virtual(main())


def test_the_cluster_is_what_schedulers_ask_for() -> None:
    async def body(disk: DictMetadata) -> None:
        cluster = await with_stores(disk, 3)
        view: ClusterView = cluster
        heard: list[int] = []
        cluster.on_region = lambda region: heard.append(region.region_id)
        region = RegionView(1, b"", b"", 2, 1, PEERS)
        assert heartbeat(cluster, region, approximate_size=100, bytes_written=1) is not None
        assert heartbeat(cluster, replace(region, conf_ver=1)) is None
        assert heard == [1]
        assert [store.store_id for store in view.stores()] == [1, 2, 3]
        assert view.region_total() == 1
        assert view.average_region_bytes() == 100
        drawn = view.random_regions(2, PeerKind.FOLLOWER, [KeyRange()], 5, random.Random(1))
        assert [one.region_id for one in drawn] == [1]
        assert view.region_of(b"x") == view.region(1) == view.scan(b"", b"", 1)[0]
        assert view.neighbours(region) == (None, None)
        assert view.hot_peers(FlowKind.WRITE) == {}
        assert not view.has_operator(1)
        store = view.store(1)
        assert store is not None
        assert (store.leader_count, store.region_count, store.leader_bytes, store.region_bytes) == (1, 1, 100, 100)
        assert view.options.max_replicas == 3

    check(body)


def test_what_a_store_registers_is_kept_and_labels_are_merged() -> None:
    async def body(disk: DictMetadata) -> None:
        cluster = await with_stores(disk, 1)
        await cluster.store_admin.set_labels(1, {"zone": "a", "rack": "1"})
        await cluster.put_store(meta(1, labels={"ZONE": "b", "host": "h"}, status_address="s:1"))
        again = (await opened(disk)).stores_info.get(1).meta
        assert {label.key: label.value for label in again.labels} == {"zone": "b", "rack": "1", "host": "h"}
        assert again.status_address == "s:1"
        await cluster.store_admin.delete_label(1, "rack")
        await cluster.store_admin.set_labels(1, {"disk": "ssd"}, force=True)
        found = (await opened(disk)).store(1)
        assert found is not None
        assert found.labels == (("disk", "ssd"),)
        for bad in ({"-": "x"}, {"a b": "x"}, {"zone": "x y"}, {"zone": "x\n"}, {"engine": "tiflash"}):
            with pytest.raises(PdError):
                await cluster.store_admin.set_labels(1, bad)
        with pytest.raises(PdError, match="the label key rack does not exist"):
            await cluster.store_admin.delete_label(1, "rack")
        with pytest.raises(StoreNotFound, match="store 9 not found"):
            await cluster.store_admin.set_labels(9, {"zone": "x"})

    check(body)


def test_the_first_store_is_checked_as_any_other() -> None:
    async def body(disk: DictMetadata) -> None:
        cluster = await opened(disk)
        region = metapb_pb2.Region(id=1)
        region.peers.add(id=11, store_id=1)
        for bad in (metapb_pb2.Store(id=1, address="a:1", version="new"), meta(1, labels={"-": "x"})):
            with pytest.raises(PdError):
                await cluster.bootstrap(bad, region)
        del region.peers[:]
        with pytest.raises(PdError, match="invalid first region peer count 0, must be 1 for bootstrap"):
            await cluster.bootstrap(meta(1), region)
        assert not cluster.bootstrapped

    check(body)


def test_labels_follow_the_public_formats() -> None:
    validate([("$zone", "a-b_c.d/e"), ("Z9", "")])
    with pytest.raises(PdError, match=r'zone- does not match format "\^\[\$\]'):
        validate([("zone-", "x")])
    assert merge([("a", "1"), ("b", "2")], [("B", ""), ("c", "3")]) == [("a", "1"), ("c", "3")]


def test_strict_matching_wants_all_location_labels_and_no_others() -> None:
    async def body(disk: DictMetadata) -> None:
        cluster = await with_stores(disk, 1, location_labels=("zone",))
        await cluster.settings.set({"strictly-match-label": "true"})
        with pytest.raises(PdError, match="need to specify the key: zone"):
            await cluster.put_store(meta(2))
        with pytest.raises(PdError, match="store label key: host"):
            await cluster.put_store(meta(2, labels={"zone": "a", "host": "h"}))
        await cluster.put_store(meta(2, labels={"zone": "a", "engine": "tiflash"}))

    check(body)


def test_addresses_are_taken_once() -> None:
    async def body(disk: DictMetadata) -> None:
        cluster = await with_stores(disk, 2)
        thief = meta(3)
        thief.address = "store1:1"
        with pytest.raises(StoreAddressConflict, match="duplicated store address: store1:1"):
            await cluster.put_store(thief)
        with pytest.raises(StoreAddressConflict, match="duplicated store peer address"):
            await cluster.put_store(meta(3, peer_address="store2:1"))
        await cluster.store_admin.remove(1, physically_destroyed=True)
        await cluster.put_store(thief)
        for bad in (metapb_pb2.Store(id=5), metapb_pb2.Store(address="a:1")):
            with pytest.raises(PdError, match="invalid put store"):
                await cluster.put_store(bad)

    check(body)


def test_the_cluster_is_as_old_as_its_oldest_store() -> None:
    async def body(disk: DictMetadata) -> None:
        cluster = await with_stores(disk, 1)
        assert str(cluster.settings.cluster_version) == "8.5.0"
        newer = meta(2)
        newer.version = "v8.5.1-alpha"
        await cluster.put_store(newer)
        assert str(cluster.settings.cluster_version) == "8.5.0"
        old = meta(3)
        old.version = "7.1.0"
        with pytest.raises(PdError, match=r"version should compatible with version  8.5.0, got 7.1.0"):
            await cluster.put_store(old)
        old.version = "new"
        with pytest.raises(PdError, match="not in dotted-tri format"):
            await cluster.put_store(old)
        upgraded = meta(1)
        upgraded.version = "8.5.1"
        await cluster.put_store(upgraded)
        assert str((await opened(disk)).settings.cluster_version) == "8.5.1-alpha"

    check(body)


def test_versions_are_ordered_as_releases_are() -> None:
    texts = ["", "4.0.0-alpha", "4.0.0-beta.2", "4.0.0-beta.11", "4.0.0", "4.0.1", "4.1.0", "v10.0.0+build"]
    versions = [Version.parse(text) for text in texts]
    assert all(low < high for low, high in pairwise(versions))
    assert Version.parse("4.0.3").admits(Version.parse("4.0.1"))
    assert not Version.parse("4.1.0").admits(Version.parse("4.0.9"))


def test_a_store_can_be_removed_only_while_enough_others_are_left() -> None:
    async def body(disk: DictMetadata) -> None:
        cluster = await with_stores(disk, 3)
        text = "can not remove store 1 since the number of up stores would be 2 while need 3"
        with pytest.raises(PdError, match=text):
            await cluster.store_admin.remove(1)
        await cluster.put_store(meta(4))
        cluster.stores_info.no_leader_in.update({2, 3, 4})
        with pytest.raises(PdError, match="no extra up store to store the leader"):
            await cluster.store_admin.remove(1)
        cluster.stores_info.no_leader_in.clear()
        await cluster.store_admin.remove(1)
        await cluster.store_admin.remove(1)
        again = await opened(disk)
        assert again.stores_info.get(1).meta.node_state == metapb_pb2.Removing
        view = again.store(1)
        assert view is not None
        assert view.state is StoreState.OFFLINE
        await cluster.put_store(meta(1))
        assert cluster.stores_info.get(1).meta.state == metapb_pb2.Offline, "registering again does not cancel it"
        await cluster.store_admin.up(1)
        assert (await opened(disk)).stores_info.get(1).meta.state == metapb_pb2.Up
        await cluster.store_admin.remove(1, physically_destroyed=True)
        with pytest.raises(PdError, match="store 1 has been physically destroyed"):
            await cluster.store_admin.up(1)
        with pytest.raises(PdError, match="store 1 has been physically destroyed"):
            await cluster.store_admin.remove(1)
        with pytest.raises(StoreNotFound, match="store 9 not found"):
            await cluster.store_admin.remove(9)

    check(body)


def test_an_emptied_store_is_buried_when_all_regions_are_known() -> None:
    async def body(disk: DictMetadata) -> None:
        cluster = await with_stores(disk, 4)

        def all_well(*store_ids: int, regions: int = 0) -> None:
            for store_id in store_ids:
                cluster.store_heartbeat(pdpb_pb2.StoreStats(store_id=store_id, region_count=regions))

        with pytest.raises(PdError, match="store is still up, please remove store gracefully"):
            await cluster.store_admin.bury(4)
        await cluster.store_admin.remove(4)
        heartbeat(cluster, RegionView(1, b"", b"", 2, 1, (*PEERS, PeerView(14, 4))))
        await asyncio.sleep(100)
        all_well(4)
        await cluster.tick()
        assert cluster.regions.statistics.regions(RegionState.OFFLINE_PEER) == [1]
        assert cluster.stores_info.get(4).meta.state == metapb_pb2.Offline, "a region is there"
        with pytest.raises(PdError, match="still holds regions"):
            await cluster.store_admin.bury(4)
        heartbeat(cluster, RegionView(1, b"", b"m", 3, 2, PEERS))
        all_well(4)
        await cluster.tick()
        assert cluster.stores_info.get(4).meta.state == metapb_pb2.Offline, "nobody knows what is behind m"
        heartbeat(cluster, RegionView(2, b"m", b"", 3, 2, PEERS))
        all_well(4, regions=1)
        await cluster.tick()
        assert cluster.stores_info.get(4).meta.state == metapb_pb2.Offline, "the store itself knows of a region"
        all_well(4)
        await cluster.tick()
        assert cluster.stores_info.get(4).meta.state == metapb_pb2.Tombstone
        assert [store.store_id for store in cluster.stores()] == [1, 2, 3]
        with pytest.raises(StoreTombstone):
            all_well(4)
        with pytest.raises(StoreTombstone):
            await cluster.put_store(meta(4))
        again = await opened(disk)
        assert again.stores_info.get(4).meta.node_state == metapb_pb2.Removed
        await cluster.store_admin.remove_tombstones()
        assert (await opened(disk)).stores_info.find(4) is None

    check(body)


def test_a_restarted_pd_buries_nobody_before_regions_have_reported() -> None:
    async def body(disk: DictMetadata) -> None:
        await (await with_stores(disk, 4)).store_admin.remove(4)
        cluster = await opened(disk)
        await cluster.tick()
        await asyncio.sleep(300)
        await cluster.tick()
        assert cluster.stores_info.get(4).meta.state == metapb_pb2.Offline

    check(body)


def test_tombstones_that_regions_still_name_are_kept_and_named() -> None:
    async def body(disk: DictMetadata) -> None:
        cluster = await with_stores(disk, 5)
        for store_id in (4, 5):
            await cluster.store_admin.remove(store_id, physically_destroyed=True)
            await cluster.store_admin.bury(store_id)
        heartbeat(cluster, RegionView(1, b"", b"", 2, 1, (*PEERS, PeerView(14, 4))))
        with pytest.raises(PdError, match="failed stores: 4"):
            await cluster.store_admin.remove_tombstones()
        assert [info.meta.id for info in cluster.stores_info.all()] == [1, 2, 3, 4]

    check(body)


def test_weights_are_kept_and_checked() -> None:
    async def body(disk: DictMetadata) -> None:
        cluster = await with_stores(disk, 1)
        await cluster.store_admin.set_weights(1, 2.5, 0)
        found = (await opened(disk)).store(1)
        assert found is not None
        assert (found.leader_weight, found.region_weight) == (2.5, 0.0)
        for leader, region, text in ((-1.0, 1.0, "leader"), (1.0, float("nan"), "region")):
            with pytest.raises(PdError, match=f"bad format {text} weight"):
                await cluster.store_admin.set_weights(1, leader, region)

    check(body)


def test_silence_makes_a_store_disconnected_and_then_down() -> None:
    async def body(disk: DictMetadata) -> None:
        cluster = await with_stores(disk, 1, max_store_down_time_s=60.0)

        def state() -> StoreState:
            view = cluster.store(1)
            assert view is not None
            return view.state

        states = []
        for pause in (1, 21, 40):
            await asyncio.sleep(pause)
            states.append(state())
        assert states == [StoreState.UP, StoreState.DISCONNECTED, StoreState.DOWN]
        cluster.store_heartbeat(pdpb_pb2.StoreStats(store_id=1))
        assert state() is StoreState.UP
        with pytest.raises(StoreNotFound, match="store 7 not found"):
            cluster.store_heartbeat(pdpb_pb2.StoreStats(store_id=7))

    check(body)


def test_rates_are_medians_over_reported_or_elapsed_time() -> None:
    async def body(disk: DictMetadata) -> None:
        cluster = await with_stores(disk, 1)
        for amount in (0, 100, 100, 9000, 100):
            await asyncio.sleep(10)
            cluster.store_heartbeat(pdpb_pb2.StoreStats(store_id=1, bytes_written=amount, keys_read=amount * 2))
        load = cluster.store_load(1)
        assert (load.write_bytes_rate, load.read_keys_rate, load.read_bytes_rate) == (10, 20, 0)
        timed = pdpb_pb2.StoreStats(store_id=1, bytes_written=500)
        timed.interval.start_timestamp, timed.interval.end_timestamp = 100, 105
        for _ in range(5):
            cluster.store_heartbeat(timed)
        assert cluster.store_load(1).write_bytes_rate == 100

    check(body)


def test_reads_that_stores_report_make_replicas_hot() -> None:
    async def body(disk: DictMetadata) -> None:
        cluster = await with_stores(disk, 3)
        heartbeat(cluster, RegionView(1, b"", b"", 2, 1, PEERS))
        stats = pdpb_pb2.StoreStats(store_id=2)
        stats.interval.start_timestamp, stats.interval.end_timestamp = 100, 110
        stats.peer_stats.add(region_id=1, read_bytes=10 * 10_000, read_keys=10)
        stats.peer_stats.add(region_id=77, read_bytes=10 * 10_000)
        cluster.store_heartbeat(stats)
        hot = cluster.hot_peers(FlowKind.READ)[2]
        assert [(peer.region_id, peer.bytes_rate, peer.is_leader) for peer in hot] == [(1, 10_000, False)]

    check(body)


def test_low_space_and_slowness_are_as_the_store_says() -> None:
    async def body(disk: DictMetadata) -> None:
        cluster = await with_stores(disk, 1)
        stats = pdpb_pb2.StoreStats(store_id=1, capacity=100 << 30, available=9 << 30, slow_score=80, used_size=7)
        cluster.store_heartbeat(stats)
        info = cluster.stores_info.get(1)
        assert info.is_slow
        assert not info.is_low_space(0.8, 10), "few regions and nine gigabytes"
        assert info.is_low_space(0.8, 100)
        assert not info.is_low_space(0.95, 100)
        view = cluster.store(1)
        assert view is not None
        assert (view.capacity_bytes, view.available_bytes, view.used_bytes, view.slow_score) == (
            100 << 30,
            9 << 30,
            7,
            80,
        )

    check(body)


def test_timestamps_rise_and_survive() -> None:
    async def body(disk: DictMetadata) -> None:
        cluster = await with_stores(disk, 3)
        heartbeat(cluster, RegionView(1, b"", b"", 2, 1, PEERS))
        assert cluster.min_resolved_ts() == 0
        cluster.stores_info.report_min_resolved_ts(1, 400)
        cluster.stores_info.report_min_resolved_ts(1, (1 << 64) - 1)
        assert cluster.min_resolved_ts() == 400
        await asyncio.sleep(1)
        await cluster.tick()
        await cluster.timestamps.set_external(1 << 60, 1 << 61)
        with pytest.raises(PdError, match="should not be larger than global ts"):
            await cluster.timestamps.set_external((1 << 61) + 1, 1 << 61)
        with pytest.raises(PdError, match="should be larger than current external timestamp"):
            await cluster.timestamps.set_external(1 << 60, 1 << 61)
        again = await opened(disk)
        assert again.min_resolved_ts() == 400
        assert again.timestamps.external == 1 << 60

    check(body)


def test_cluster_records() -> None:
    async def body(disk: DictMetadata) -> None:
        cluster = await opened(disk)
        with pytest.raises(NotBootstrapped):
            cluster.cluster_meta()
        with pytest.raises(NotBootstrapped):
            await cluster.put_store(meta(1))
        assert cluster.status()["is_initialized"] is False
        cluster = await with_stores(disk, 3)
        assert cluster.status()["is_initialized"] is False
        heartbeat(cluster, RegionView(1, b"", b"", 2, 1, PEERS))
        assert cluster.status()["is_initialized"] is True
        with pytest.raises(PdError, match="mismatch cluster id"):
            await cluster.put_cluster_meta(metapb_pb2.Cluster(id=1))
        await cluster.put_cluster_meta(metapb_pb2.Cluster(id=cluster.cluster_id, max_peer_count=5))
        assert (await opened(disk)).cluster_meta().max_peer_count == 5

    check(body)


def test_nothing_takes_effect_that_was_not_written() -> None:
    async def body(disk: DictMetadata) -> None:
        cluster = await with_stores(disk, 4)
        disk.failing = True
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: cluster.store_admin.remove(1),
            lambda: cluster.store_admin.set_weights(1, 5, 5),
            lambda: cluster.store_admin.set_labels(1, {"zone": "a"}),
            lambda: cluster.settings.set({"max-replicas": 5}),
            lambda: cluster.timestamps.set_external(5, 6),
            lambda: cluster.put_store(meta(9)),
        ]
        for call in calls:
            with pytest.raises(OutcomeUnknown):
                await call()
        info = cluster.stores_info.get(1)
        assert (info.meta.state, info.leader_weight, len(info.meta.labels)) == (metapb_pb2.Up, 1.0, 0)
        assert cluster.options.max_replicas == 3
        assert cluster.timestamps.external == 0
        assert cluster.stores_info.find(9) is None

    check(body)
