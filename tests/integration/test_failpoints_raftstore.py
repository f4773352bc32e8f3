"""Failpoints of the raftstore that lose something or hold it up: what is lost is made good, what waits breaks no promise."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from core_py.errors import DbError
from core_py.failpoints import FailPoints
from core_py.region_errors import RegionNotInitialized
from core_py.sim.loop import run_virtual
from protos.kvproto import metapb_pb2
from tests.integration.test_storage_cluster import raw_client, three_replicas
from tests.support.cluster_checks import (
    leader,
    led,
    merge,
    peer_of,
    split,
    split_everywhere,
    store_of,
    until,
    whole,
    writing,
)
from tests.support.storage_cluster import FAST, Node, StorageCluster, storage_cluster
from tikv_py.client.raw.client import RawClient
from tikv_py.engine.port import CF_DEFAULT
from tikv_py.failpoints import POINTS
from tikv_py.raftstore import admin, keys
from tikv_py.raftstore.config import RaftstoreConfig
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.region import AdminRefused
from tikv_py.server.app import TikvServer

SHORT_LOGS = replace(FAST, raft_log_gc_threshold=5, raft_log_gc_count_limit=20)
ELECTION_TIMEOUT_S = 0.5  # of FAST
REMOVE_NODE = 1

Body = Callable[[StorageCluster, RawClient], Awaitable[None]]


def run(body: Body, *, stores: int = 3, raftstore: RaftstoreConfig = FAST) -> None:
    """With a client, on virtual time; afterwards the cluster must become whole."""

    async def main() -> None:
        async with storage_cluster(stores, raftstore=raftstore) as cluster, await raw_client(cluster) as client:
            await three_replicas(cluster, min(stores, 3))
            await body(cluster, client)
            await whole(cluster)

    run_virtual(main())


def fail_of(node: Node) -> FailPoints:
    assert node.server is not None
    return node.server.fail


def arm_all(cluster: StorageCluster, point: str, actions: str) -> None:
    for node in cluster.nodes:
        fail_of(node).configure(point, actions)


def disarm_all(cluster: StorageCluster, point: str) -> None:
    for node in cluster.nodes:
        fail_of(node).remove(point)


async def roles(cluster: StorageCluster, key: bytes) -> tuple[Node, Peer, list[Node]]:
    """The leader's store and peer, and the other stores."""
    node, peer = await leader(cluster, key)
    return node, peer, [other for other in cluster.nodes if other is not node]


async def is_done(work: Awaitable[object], seconds: float) -> bool:
    """Whether something is done in a time; it is given up if not."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        return False
    return True


async def insist(attempt: Callable[[], Awaitable[object]]) -> None:
    """Try until it is accepted."""
    for _ in range(100):
        with suppress(DbError):
            await attempt()
            return
        await asyncio.sleep(0.1)
    raise AssertionError("never accepted")


# ---- what is dropped ----


@pytest.mark.parametrize(
    "point",
    ["peer_create", "snapshot_receive_chunk", "snapshot_received", "snapshot_refuse", "snapshot_make", "change_peers"],
)
def test_a_replica_comes_as_soon_as_nothing_keeps_it_away(point: str) -> None:
    async def body(cluster: StorageCluster, client: RawClient) -> None:
        await client.put(b"k", b"v")
        fail_of(cluster.nodes[0]).configure(point, "return(not now)")
        cluster.before_store_starts = lambda server: server.fail.configure(point, "return(not now)")
        added = await cluster.add_store("store2")
        await asyncio.sleep(5)
        assert added.kv_db.get("default", b"zk") is None
        assert added.kv_db.staged() == []
        await client.put(b"meanwhile", b"v")
        disarm_all(cluster, point)
        await three_replicas(cluster, 2)

    run(body, stores=1)


@pytest.mark.parametrize("kept", [True, False])
def test_a_vote_request_that_came_too_early_saves_an_election_timeout(*, kept: bool) -> None:
    async def body(cluster: StorageCluster, _client: RawClient) -> None:
        _, _, (needed, away) = await roles(cluster, b"a")
        await asyncio.sleep(0.2)
        await cluster.stop_store(away)
        fail_of(needed).configure("split_peer_before_start", "delay(100)")
        if not kept:
            fail_of(needed).configure("vote_request_keep", "return")
        await split(cluster, b"m")
        begun = asyncio.get_running_loop().time()
        await leader(cluster, b"a")
        took_s = asyncio.get_running_loop().time() - begun
        assert (took_s < ELECTION_TIMEOUT_S / 2) == kept
        await cluster.start_store(away)

    run(body)


def test_a_removed_peer_that_nobody_tells_stays_and_does_no_harm() -> None:
    async def body(cluster: StorageCluster, client: RawClient) -> None:
        node, peer, (away, other) = await roles(cluster, b"a")
        arm_all(cluster, "pd_command", "return")
        member = next(one for one in peer.region.peers if one.store_id == store_of(away).store_id)
        await cluster.crash(away)
        await admin.change_peers(store_of(node), peer, [(REMOVE_NODE, member)])
        for one in (node, other):
            fail_of(one).configure("peer_tell_removed", "return")
        await asyncio.sleep(1)  # what was on its way to the store is lost
        await cluster.start_store(away)
        await asyncio.sleep(5)
        left = peer_of(away, b"a")
        assert left is not None
        assert left.peer_id == member.id
        assert not left.is_leader
        await client.put(b"k", b"v")

        for one in (node, other):
            fail_of(one).remove("peer_tell_removed")
        await until(lambda: "" if peer_of(away, b"a") is None else "it is there", "the peer is told and goes")
        disarm_all(cluster, "pd_command")
        await three_replicas(cluster)

    run(body)


def test_a_log_that_nobody_cuts_is_cut_later() -> None:
    async def body(cluster: StorageCluster, client: RawClient) -> None:
        _, peer, _ = await roles(cluster, b"a")
        arm_all(cluster, "log_gc_propose", "return")
        first = peer.storage.first_index()
        for number in range(60):
            await client.put(b"k", b"%d" % number)
        await asyncio.sleep(3)
        assert peer.storage.first_index() == first
        disarm_all(cluster, "log_gc_propose")
        await client.put(b"k", b"the region is awake")
        await until(lambda: "" if peer.storage.first_index() > first + 40 else "not yet", "the log is cut")

    run(body, raftstore=SHORT_LOGS)


def test_a_follower_that_does_not_sleep_keeps_its_leader_awake() -> None:
    async def body(cluster: StorageCluster, client: RawClient) -> None:
        node, peer, (follower, _) = await roles(cluster, b"a")
        fail_of(follower).configure("hibernate_request", "return")
        await client.put(b"k", b"v")
        for _ in range(50):
            await asyncio.sleep(0.1)
            assert not store_of(node).hibernation.is_asleep(peer.region.id)
        fail_of(follower).remove("hibernate_request")
        await until(lambda: all_asleep(cluster), "all sleep")

    run(body)


def all_asleep(cluster: StorageCluster) -> str:
    awake = [node.name for node in cluster.nodes if store_of(node).hibernation.awake]
    return f"{awake} are awake" if awake else ""


def test_a_store_that_seems_silent_costs_its_followers_their_sleep_and_no_election() -> None:
    async def body(cluster: StorageCluster, _client: RawClient) -> None:
        await until(lambda: all_asleep(cluster), "all sleep")
        _, peer, (follower, _) = await roles(cluster, b"a")
        term, region_id = peer.node.term, peer.region.id
        fail_of(follower).configure("hibernate_probe", "return")
        await until(
            lambda: "asleep" if store_of(follower).hibernation.is_asleep(region_id) else "", "the follower is woken"
        )
        await asyncio.sleep(5)
        assert (peer.is_leader, peer.node.term) == (True, term)
        fail_of(follower).remove("hibernate_probe")
        await until(lambda: all_asleep(cluster), "all sleep again")
        assert (peer.is_leader, peer.node.term) == (True, term)

    run(body)


def test_a_refused_transfer_leaves_the_leader() -> None:
    async def body(cluster: StorageCluster, _client: RawClient) -> None:
        node, peer, (other, _) = await roles(cluster, b"a")
        target = next(one for one in peer.region.peers if one.store_id == store_of(other).store_id)
        fail_of(node).configure("transfer_leader", "1*return(stay)")
        with pytest.raises(AdminRefused, match="stay"):
            admin.transfer_leader(store_of(node), peer, target)
        await asyncio.sleep(2)
        assert peer.is_leader
        admin.transfer_leader(store_of(node), peer, target)
        await until(lambda: "" if led(cluster, b"a") == (other, peer_of(other, b"a")) else "not yet", "it leads")

    run(body)


def test_a_leader_that_does_not_trust_its_lease_asks_the_others() -> None:
    async def body(cluster: StorageCluster, client: RawClient) -> None:
        await client.put(b"k", b"v")
        await asyncio.sleep(0.2)
        node, peer, _ = await roles(cluster, b"k")
        assert await client.get(b"k") == b"v"
        fail_of(node).configure("raft_message_send", "return")
        assert await is_done(client.get(b"k"), 0.1), "the lease lasts"
        fail_of(node).configure("lease_lost", "return")
        assert not peer.can_read_locally()
        assert not await is_done(client.get(b"k"), 0.1), "nobody confirms that it leads"
        fail_of(node).remove("raft_message_send")
        assert await client.get(b"k") == b"v"
        fail_of(node).remove("lease_lost")

    run(body)


def test_a_merge_that_is_refused_changes_nothing() -> None:
    async def body(cluster: StorageCluster, client: RawClient) -> None:
        await split_everywhere(cluster, b"m")
        arm_all(cluster, "merge_prepare", "return(not today)")
        _, source = await leader(cluster, b"a")
        with pytest.raises(AdminRefused, match="not today"):
            await merge(cluster, b"a", b"p")
        assert source.storage.merge is None
        await client.put(b"a", b"1")
        disarm_all(cluster, "merge_prepare")
        await insist(lambda: merge(cluster, b"a", b"p"))
        await until(
            lambda: "" if all(len(store_of(node).peers) == 1 for node in cluster.nodes) else "two", "one region"
        )
        assert await client.get(b"a") == b"1"

    run(body)


@pytest.mark.parametrize("point", ["merge_propose_commit", "merge_propose_rollback"])
def test_a_merge_that_nobody_ends_keeps_its_source_closed_until_somebody_does(point: str) -> None:
    async def body(cluster: StorageCluster, client: RawClient) -> None:
        await split_everywhere(cluster, b"m")
        arm_all(cluster, "merge_propose_commit", "return")
        arm_all(cluster, "merge_propose_rollback", "return")
        await client.put(b"a", b"1")
        await insist(lambda: merge(cluster, b"a", b"p"))
        if point == "merge_propose_rollback":
            await split(cluster, b"x")
        await asyncio.sleep(2)
        assert not await is_done(client.put(b"a", b"2"), 2)
        assert not await is_done(client.get(b"a"), 2)
        await client.put(b"p", b"2")
        _, source = await leader(cluster, b"a")
        assert source.storage.merge is not None
        disarm_all(cluster, "merge_propose_commit")
        disarm_all(cluster, "merge_propose_rollback")
        await client.put(b"a", b"3")
        await until(lambda: "" if not any(store_of(node).closed for node in cluster.nodes) else "closed", "it ended")
        merged = (await leader(cluster, b"a"))[1].region.id == (await leader(cluster, b"p"))[1].region.id
        assert merged == (point == "merge_propose_commit")

    run(body)


# ---- what waits ----


@pytest.mark.parametrize("point", ["raft_before_sync", "raft_after_sync"])
def test_nothing_is_acknowledged_that_a_majority_has_not_synced(point: str) -> None:
    async def body(cluster: StorageCluster, client: RawClient) -> None:
        await client.put(b"k", b"1")
        await asyncio.sleep(0.3)
        _, _, followers = await roles(cluster, b"k")
        for node in followers:
            fail_of(node).configure(point, "pause")
        assert not await is_done(client.put(b"k", b"2"), ELECTION_TIMEOUT_S / 2)
        assert [node.kv_db.get("default", b"zk") for node in cluster.nodes] == [b"1"] * 3
        for node in followers:
            fail_of(node).remove(point)
        await client.put(b"k", b"3")

    run(body)


@pytest.mark.parametrize("point", ["raft_before_sync", "raft_after_sync"])
def test_what_a_majority_has_synced_outlives_a_leader_that_has_not(point: str) -> None:
    async def body(cluster: StorageCluster, client: RawClient) -> None:
        await client.put(b"k", b"1")
        node, _, _ = await roles(cluster, b"k")
        fail_of(node).configure(point, "pause")
        async with asyncio.TaskGroup() as group:
            written = group.create_task(client.put(b"k", b"2"))
            await asyncio.sleep(2)
            assert not written.done(), "a leader answers what it has synced itself"
            await cluster.crash(node)

            def found() -> str:
                left = [one.kv_db.get("default", b"zk") for one in cluster.nodes if one is not node]
                return "" if left == [b"2"] * 2 else f"it is {left}"

            await until(found, "the write is there")
            await cluster.start_store(node)

    run(body)


def test_a_leader_whose_loop_stands_still_is_replaced_and_answers_no_reads() -> None:
    async def body(cluster: StorageCluster, client: RawClient) -> None:
        await client.put(b"k", b"1")
        node, peer, _ = await roles(cluster, b"k")
        fail_of(node).configure("raft_before_turn", "pause")
        await client.put(b"k", b"2")
        assert led(cluster, b"k") != (node, peer)
        assert not peer.can_read_locally()
        assert node.kv_db.get("default", b"zk") == b"1"
        fail_of(node).remove("raft_before_turn")
        await until(lambda: "" if node.kv_db.get("default", b"zk") == b"2" else "behind", "it catches up")

    run(body)


@pytest.mark.parametrize("point", ["split_peer_before_sync", "split_peer_before_start"])
def test_a_new_region_waits_until_its_birth_is_durable(point: str) -> None:
    async def body(cluster: StorageCluster, client: RawClient) -> None:
        arm_all(cluster, point, "pause")
        await split(cluster, b"m")
        await client.put(b"p", b"1")
        assert not await is_done(client.put(b"a", b"1"), 2)
        for node in cluster.nodes:
            ((region_id, region),) = store_of(node).unsettled.items()
            assert region is not None
            with pytest.raises(RegionNotInitialized):
                store_of(node).find(region_id)
        disarm_all(cluster, point)
        await client.put(b"a", b"2")

    run(body)


def test_two_replicas_of_a_new_region_serve_without_the_third() -> None:
    async def body(cluster: StorageCluster, client: RawClient) -> None:
        _, _, (slow, _) = await roles(cluster, b"a")
        fail_of(slow).configure("split_peer_before_start", "pause")
        await split(cluster, b"m")
        await client.put(b"a", b"1")
        assert peer_of(slow, b"a") is None
        fail_of(slow).remove("split_peer_before_start")

    run(body)


@pytest.mark.parametrize("point", ["burial_before_sync", "burial_before_clear", "burial_before_release"])
def test_a_region_comes_back_to_a_store_only_after_its_burial(point: str) -> None:
    async def body(cluster: StorageCluster, client: RawClient) -> None:
        await client.put(b"k", b"v")
        node, peer, (removed, _) = await roles(cluster, b"a")
        fail_of(removed).configure(point, "pause")
        member = next(one for one in peer.region.peers if one.store_id == store_of(removed).store_id)
        await admin.change_peers(store_of(node), peer, [(REMOVE_NODE, member)])
        await until(lambda: "" if store_of(removed).unsettled else "not yet", "the peer is being buried")
        await asyncio.sleep(3)
        assert peer_of(removed, b"a") is None
        assert any(one.store_id == member.store_id for one in peer.region.peers), "PD wants it back"
        await client.put(b"k", b"w")
        fail_of(removed).remove(point)
        await three_replicas(cluster)

    run(body)


@pytest.mark.parametrize("point", ["log_cut_before_sync", "log_cut_before_delete"])
def test_entries_stay_until_what_they_did_is_durable(point: str) -> None:
    async def body(cluster: StorageCluster, client: RawClient) -> None:
        node, peer, _ = await roles(cluster, b"a")
        first = peer.storage.first_index()
        fail_of(node).configure(point, "pause")

        def held() -> list[tuple[bytes, bytes]]:
            region_id, index = peer.region.id, peer.storage.first_index()
            return node.raft_db.scan(CF_DEFAULT, keys.log_key(region_id, 0), keys.log_key(region_id, index))

        for number in range(30):
            await client.put(b"k", b"%d" % number)
        await until(lambda: "" if peer.storage.first_index() > first else "not yet", "a cut is applied")
        await asyncio.sleep(1)
        assert len(held()) == peer.storage.first_index() - first
        fail_of(node).remove(point)
        await until(lambda: f"{len(held())} left" if held() else "", "the entries are removed")

    run(body, raftstore=SHORT_LOGS)


@pytest.mark.parametrize(
    "point",
    [
        "snapshot_received",
        "snapshot_before_clear",
        "snapshot_before_ingest",
        "snapshot_before_region_state",
        "snapshot_before_unmark",
        "snapshot_before_drop",
        "snapshot_before_answer",
    ],
)
def test_a_replica_counts_only_when_its_snapshot_is_in(point: str) -> None:
    async def body(cluster: StorageCluster, client: RawClient) -> None:
        await client.put(b"k", b"v")
        cluster.before_store_starts = lambda server: server.fail.configure(point, "pause")
        added = await cluster.add_store("store2")
        await asyncio.sleep(5)
        _, peer = await leader(cluster, b"k")
        ours = next(one for one in peer.region.peers if one.store_id == store_of(added).store_id)
        progress = peer.node.progress(ours.id)
        assert progress is not None
        assert (ours.role, progress.match) == (metapb_pb2.Learner, 0)
        await client.put(b"k", b"w")
        fail_of(added).remove(point)
        await three_replicas(cluster, 2)

    run(body, stores=1)


# ---- a little of everything ----

LOSSES = (
    *("raft_message_send", "raft_queue_full", "raft_stream_send", "raft_message_receive", "snapshot_send_chunk"),
    *("peer_create", "vote_request_keep", "peer_tell_removed", "change_peers", "transfer_leader", "lease_lost"),
    *("snapshot_make", "snapshot_receive_chunk", "snapshot_received", "snapshot_refuse", "merge_prepare"),
    *("merge_propose_commit", "merge_propose_rollback", "log_gc_propose", "hibernate_request", "hibernate_probe"),
)
STALLS = tuple(
    name
    for name, point in POINTS.items()
    if point.waits and name.startswith(("raft_", "snapshot_", "split_peer_", "burial_", "log_"))
)


@pytest.mark.parametrize("seed", range(10))
def test_a_cluster_in_which_everything_fails_now_and_then_gets_over_it(seed: int) -> None:
    async def main() -> None:
        async with storage_cluster(3, seed=seed, raftstore=SHORT_LOGS) as cluster, await raw_client(cluster) as client:
            await three_replicas(cluster)
            async with writing(client, (b"a", b"b", b"p", b"z")) as writers:
                for node in cluster.nodes:
                    make_unreliable(node.server)
                for _ in range(3):
                    with suppress(DbError):
                        await is_done(split(cluster, b"m"), 2)
                    await asyncio.sleep(1)
                    with suppress(DbError):
                        await is_done(merge(cluster, b"a", b"p"), 2)
                    await asyncio.sleep(1)
                for node in cluster.nodes:
                    for name, _ in fail_of(node).list():
                        fail_of(node).remove(name)
            await whole(cluster)
            await writers.check()

    run_virtual(main())


def make_unreliable(server: TikvServer | None) -> None:
    assert server is not None
    for name in STALLS:
        server.fail.configure(name, "5%delay(60)")
    for name in LOSSES:
        server.fail.configure(name, "5%return")
