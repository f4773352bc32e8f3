"""Power is lost at every failpoint of the raftstore: what was acknowledged stays, and the cluster becomes whole.

Every case has one store with one point armed to panic, a scenario that brings the store there while clients write, and what the
disks kept of what was not synced. After the restart all replicas must have the same regions and data, with nothing left over.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest

from core_py.errors import DbError
from core_py.failpoints import FailPointPanic
from core_py.sim.loop import run_virtual
from tests.integration.test_storage_cluster import raw_client, three_replicas
from tests.support.cluster_checks import leader, led, merge, split, split_everywhere, store_of, until, whole, writing
from tests.support.power_cut import ALL, NOTHING, ONLY_KV, ONLY_RAFT, Keep, PowerCut
from tests.support.storage_cluster import FAST, Node, StorageCluster, storage_cluster
from tikv_py.client.raw.client import RawClient
from tikv_py.raftstore import admin

SHORT_LOGS = replace(FAST, raft_log_gc_threshold=5, raft_log_gc_count_limit=20)
LEADER, FOLLOWER, BOTH = "leader", "follower", "both"
KEYS = (b"a", b"b", b"p", b"z")
LONG_S = 3.0


@dataclass
class Stage:
    """What a scenario works with. `who` is the role, in the region that it is about, of the store that loses power."""

    cluster: StorageCluster
    client: RawClient
    cut: PowerCut
    who: str

    async def arm(self, key: bytes) -> Node:
        """Arm the store that has the role in the key's region."""
        leading, _ = await leader(self.cluster, key)
        node = leading if self.who == LEADER else next(node for node in self.cluster.nodes if node is not leading)
        self.cut.arm(node)
        return node

    async def insist(self, attempt: Callable[[], Awaitable[object]]) -> None:
        """Try an operator's command until the power is off; a store that loses it answers nothing."""
        while not self.cut.has_happened:
            with suppress(DbError, TimeoutError, FailPointPanic):
                async with asyncio.timeout(1):
                    await attempt()
            await asyncio.sleep(0.05)


async def ordinary_writes(stage: Stage) -> None:
    await stage.arm(b"a")


async def leadership_moves(stage: Stage) -> None:
    armed = await stage.arm(b"a")

    async def move() -> None:
        node, peer = await leader(stage.cluster, b"a")
        others = [one for one in peer.region.peers if one.id != peer.peer_id]
        mine = next((one for one in others if one.store_id == store_of(armed).store_id), others[0])
        admin.transfer_leader(store_of(node), peer, mine)

    await stage.insist(move)


async def a_split(stage: Stage) -> None:
    await stage.arm(b"a")
    await stage.insist(lambda: split(stage.cluster, b"m"))


async def a_membership_change(stage: Stage) -> None:
    """A follower is removed, and PD adds it again."""
    leading, peer = await leader(stage.cluster, b"a")
    removed = next(node for node in stage.cluster.nodes if node is not leading)
    stage.cut.arm(leading if stage.who == LEADER else removed)
    member = next(one for one in peer.region.peers if one.store_id == store_of(removed).store_id)

    async def remove() -> None:
        node, peer = await leader(stage.cluster, b"a")
        if any(one.id == member.id for one in peer.region.peers):
            await admin.change_peers(store_of(node), peer, [(REMOVE_NODE, member)])

    await stage.insist(remove)


async def a_merge(stage: Stage) -> None:
    await split_everywhere(stage.cluster, b"m")
    await stage.arm(b"p")
    await stage.insist(lambda: merge(stage.cluster, b"a", b"p"))


async def a_merge_that_is_undone(stage: Stage) -> None:
    """The target is split before anybody proposes the CommitMerge."""
    await split_everywhere(stage.cluster, b"m")
    for node in stage.cluster.nodes:
        assert node.server is not None
        node.server.fail.configure("merge_propose_commit", "return")
    await stage.arm(b"a")

    async def undo() -> None:
        await merge(stage.cluster, b"a", b"p")
        await split(stage.cluster, b"x")

    await stage.insist(undo)


async def a_replica_is_added(stage: Stage) -> None:
    """To a region that was on one store."""
    await stage.client.put(b"seed", b"1")
    if stage.who == LEADER:
        stage.cut.arm(stage.cluster.nodes[0])
        await stage.cluster.add_store("store2")
    else:
        stage.cut.arm(await stage.cluster.add_store("store2"))


async def a_replica_was_left_behind(stage: Stage) -> None:
    """It was away while the log was cut, so that it gets a snapshot in the place of its old data."""
    cluster = stage.cluster
    leading, peer = await leader(stage.cluster, b"a")
    away = next(node for node in cluster.nodes if node is not leading)
    await stage.client.put(b"deleted", b"1")
    await until(lambda: "" if away.kv_db.get("default", b"zdeleted") else "not there", "the replica has the key")
    behind = store_of(away).peers[peer.region.id].storage.apply_state.applied_index
    await cluster.crash(away)
    await stage.client.delete(b"deleted")

    def kept() -> str:
        found = led(stage.cluster, b"a")
        return "" if found is not None and found[1].storage.first_index() > behind + 1 else "the log is whole"

    await until(kept, "the log is cut")
    if stage.who == LEADER:
        stage.cut.arm((await leader(stage.cluster, b"a"))[0])
        await cluster.start_store(away)
    else:
        await stage.cut.start_armed(away)


Scenario = Callable[[Stage], Awaitable[None]]
REMOVE_NODE = 1
A_SNAPSHOT_ARRIVES = {
    "snapshot_receive_chunk": FOLLOWER,
    "snapshot_received": FOLLOWER,
    "snapshot_begin": FOLLOWER,
    "snapshot_before_clear": FOLLOWER,
    "snapshot_before_ingest": FOLLOWER,
    "snapshot_before_region_state": FOLLOWER,
    "snapshot_before_unmark": FOLLOWER,
    "snapshot_before_drop": FOLLOWER,
    "snapshot_before_answer": FOLLOWER,
}
CASES: dict[Scenario, dict[str, str]] = {
    ordinary_writes: {
        "raft_before_turn": BOTH,
        "raft_before_collect": BOTH,
        "raft_before_write": BOTH,
        "raft_before_sync": BOTH,
        "raft_after_sync": BOTH,
        "apply_before_entry": BOTH,
        "apply_before_write": BOTH,
        "apply_before_answer": BOTH,
        "apply_compact_log": BOTH,
        "log_gc_propose": LEADER,
        "log_cut_before_sync": BOTH,
        "log_cut_before_delete": BOTH,
    },
    leadership_moves: {"role_change": BOTH},
    a_split: {"apply_split": BOTH, "split_peer_before_sync": BOTH, "split_peer_before_start": BOTH},
    a_membership_change: {
        "apply_conf_change": BOTH,
        "destroy_before_tombstone": FOLLOWER,
        "burial_before_sync": FOLLOWER,
        "burial_before_clear": FOLLOWER,
        "burial_before_release": FOLLOWER,
        "peer_create": FOLLOWER,
        "snapshot_before_region_state": FOLLOWER,
    },
    a_merge: {
        "merge_propose_commit": LEADER,
        "apply_prepare_merge": BOTH,
        "apply_commit_merge": BOTH,
        "merge_absorb": BOTH,
        "burial_before_sync": BOTH,
        "burial_before_clear": BOTH,
        "burial_before_release": BOTH,
    },
    a_merge_that_is_undone: {"merge_propose_rollback": LEADER, "apply_rollback_merge": BOTH},
    a_replica_is_added: {"snapshot_make": LEADER, "peer_create": FOLLOWER, **A_SNAPSHOT_ARRIVES},
    a_replica_was_left_behind: {"snapshot_make": LEADER, **A_SNAPSHOT_ARRIVES},
}
KEEPS = {"nothing": NOTHING, "raft": ONLY_RAFT, "kv": ONLY_KV, "all": ALL}
WORST = {"burial_before_release": "raft"}
"""What the disks keep where one way is the dangerous one: here the log is gone for good and the tombstone is not."""


def cases() -> list[object]:
    """(scenario, point, who, keep). What the disks keep goes round: all four with each would find little more, in minutes."""
    found: list[object] = []
    keeps = itertools.cycle(KEEPS)
    for scenario, points in CASES.items():
        for point, role in points.items():
            for who in (LEADER, FOLLOWER) if role == BOTH else (role,):
                kept = WORST.get(point) or next(keeps)
                found.append(
                    pytest.param(scenario, point, who, KEEPS[kept], id=f"{scenario.__name__}-{point}-{who}-{kept}")
                )
    return found


@pytest.mark.parametrize(("scenario", "point", "who", "keep"), cases())
def test_power_is_lost_at(
    scenario: Scenario, point: str, who: str, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = 1 if scenario is a_replica_is_added else 3

    async def main() -> None:
        async with storage_cluster(stores, raftstore=SHORT_LOGS) as cluster:
            await three_replicas(cluster, stores)
            cut = PowerCut(cluster, point, keep, monkeypatch)
            async with await raw_client(cluster) as client:
                async with writing(client, KEYS) as writers:
                    await asyncio.sleep(0.5)
                    await scenario(Stage(cluster, client, cut, who))
                    await cut.wait()
                    await asyncio.sleep(LONG_S)
                    cut.restore()
                    for node in cluster.nodes:
                        if node.server is None:
                            await cluster.start_store(node)
                        assert node.server is not None
                        node.server.fail.remove("merge_propose_commit")
                    await asyncio.sleep(LONG_S)
                    before = dict(writers.acknowledged)
                    await until(
                        lambda: "" if all(writers.acknowledged[key] > before[key] for key in KEYS) else "stuck",
                        "every key is written again",
                    )
                await whole(cluster)
                await writers.check()

    run_virtual(main())


IN_RECOVERY = (
    "snapshot_before_clear",
    "snapshot_before_ingest",
    "snapshot_before_region_state",
    "snapshot_before_unmark",
    "snapshot_before_drop",
)


@pytest.mark.parametrize("point", IN_RECOVERY)
@pytest.mark.parametrize("kept", KEEPS)
def test_power_is_lost_again_while_start_up_repeats_a_snapshot(
    point: str, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with storage_cluster(1, raftstore=SHORT_LOGS) as cluster, await raw_client(cluster) as client:
            await client.put(b"seed", b"1")
            first = PowerCut(cluster, "snapshot_before_ingest", NOTHING, monkeypatch)
            added = await cluster.add_store("store2")
            first.arm(added)
            await first.wait()
            first.restore()
            second = PowerCut(cluster, point, KEEPS[kept], monkeypatch)
            await second.start_armed(added)
            await second.wait()
            second.restore()
            await client.put(b"seed", b"2")
            await cluster.start_store(added)
            await whole(cluster)
            assert added.kv_db.get("default", b"zseed") == b"2"

    run_virtual(main())
