"""Repairs of a stopped store: what is found broken, whose replicas are given up, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core_py.errors import DbError
from core_py.raft.messages import HardState
from protos.kvproto import eraftpb_pb2, metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.debug import recovery
from tikv_py.debug.inspect import Inspector, NotThere
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_DEFAULT, CF_RAFT
from tikv_py.raftstore import keys
from tikv_py.raftstore.peer_storage import ApplyState, initial_apply_state, raft_state_bytes, region_state_bytes

VOTER, LEARNER = metapb_pb2.Voter, metapb_pb2.Learner
INCOMING, DEMOTING = metapb_pb2.IncomingVoter, metapb_pb2.DemotingVoter
OWN = 1

Members = dict[int, "metapb_pb2.PeerRole"]


def region(region_id: int, start: bytes = b"", end: bytes = b"", members: Members | None = None) -> metapb_pb2.Region:
    made = metapb_pb2.Region(id=region_id, start_key=start, end_key=end)
    made.region_epoch.conf_ver, made.region_epoch.version = 5, 6
    for store_id, role in (members or {1: VOTER, 2: VOTER, 3: VOTER}).items():
        made.peers.add(id=region_id * 10 + store_id, store_id=store_id, role=role)
    return made


def put(engine: MemoryEngine, cf: str, key: bytes, value: bytes | None) -> None:
    batch = engine.batch()
    if value is None:
        batch.delete(cf, key)
    else:
        batch.put(cf, key, value)
    engine.write(batch)


def a_store(*regions: metapb_pb2.Region, state: serverpb.PeerState = serverpb.Normal) -> Inspector:
    """A store with regions whose logs go from 6 to 9, applied up to 8."""
    raft_db, kv_db = MemoryEngine((CF_DEFAULT,)), MemoryEngine()
    put(kv_db, CF_DEFAULT, keys.STORE_IDENT_KEY, serverpb.StoreIdent(cluster_id=9, store_id=OWN).SerializeToString())
    for one in regions:
        put(kv_db, CF_RAFT, keys.region_state_key(one.id), region_state_bytes(one, state))
        put(kv_db, CF_RAFT, keys.apply_state_key(one.id), ApplyState(8, 5, 5).to_bytes())
        put(raft_db, CF_DEFAULT, keys.raft_state_key(one.id), raft_state_bytes(HardState(6, 0, 8), 9))
        for index in range(6, 10):
            entry = eraftpb_pb2.Entry(term=6, index=index)
            put(raft_db, CF_DEFAULT, keys.log_key(one.id, index), entry.SerializeToString())
    return Inspector(raft_db, kv_db)


def the(engine: object) -> MemoryEngine:
    assert isinstance(engine, MemoryEngine)
    return engine


def test_a_healthy_store_has_no_bad_regions() -> None:
    assert recovery.bad_regions(a_store(region(7, b"", b"m"), region(8, b"m"))) == []


def test_a_region_just_born_by_split_has_no_raft_state_yet() -> None:
    store = a_store(region(7))
    put(the(store.kv_db), CF_RAFT, keys.apply_state_key(7), initial_apply_state().to_bytes())
    batch = the(store.raft_db).batch()
    batch.delete_range(CF_DEFAULT, b"", b"\xff")
    the(store.raft_db).write(batch)
    assert recovery.bad_regions(store) == []


BROKEN: list[tuple[str, Callable[[Inspector], None], str]] = [
    (
        "a hole in the log",
        lambda s: put(the(s.raft_db), CF_DEFAULT, keys.log_key(7, 7), None),
        "entry 7 of its log 6..9",
    ),
    ("the log's end", lambda s: put(the(s.raft_db), CF_DEFAULT, keys.log_key(7, 9), None), "entry 9 of its log 6..9"),
    (
        "the last entries",
        lambda s: put(the(s.raft_db), CF_DEFAULT, keys.raft_state_key(7), raft_state_bytes(HardState(6, 0, 7), 7)),
        "ends at 7, but 8 is applied",
    ),
    (
        "the commit index",
        lambda s: put(the(s.raft_db), CF_DEFAULT, keys.raft_state_key(7), raft_state_bytes(HardState(6, 0, 99), 9)),
        "99 is committed",
    ),
    ("the apply state", lambda s: put(the(s.kv_db), CF_RAFT, keys.apply_state_key(7), None), "no apply state"),
    ("the region state", lambda s: put(the(s.kv_db), CF_RAFT, keys.region_state_key(7), b"\xff"), "cannot be read"),
    (
        "the own peer",
        lambda s: put(
            the(s.kv_db),
            CF_RAFT,
            keys.region_state_key(7),
            region_state_bytes(region(7, members={2: VOTER, 3: VOTER}), serverpb.Normal),
        ),
        "store 1 is not among its peers",
    ),
]


@pytest.mark.parametrize(("what", "damage", "says"), BROKEN, ids=[one[0] for one in BROKEN])
def test_damage_is_found_and_named(what: str, damage: Callable[[Inspector], None], says: str) -> None:
    store = a_store(region(7, b"", b"m"), region(8, b"m"))
    damage(store)
    (bad,) = recovery.bad_regions(store)
    assert bad.region_id == 7, what
    assert says in bad.reason


def test_overlapping_regions_are_found_and_tombstones_are_not_looked_at() -> None:
    (bad,) = recovery.bad_regions(a_store(region(7, b"", b"n"), region(8, b"m")))
    assert (bad.region_id, bad.reason) == (8, "its range overlaps with that of region 7")
    store = a_store(region(7, b"", b"n"), region(8, b"m"))
    put(the(store.kv_db), CF_RAFT, keys.region_state_key(8), region_state_bytes(region(8, b"m"), serverpb.Tombstone))
    assert recovery.bad_regions(store) == []


def test_a_snapshot_that_is_being_brought_in_excuses_the_log() -> None:
    store = a_store(region(7))
    put(the(store.raft_db), CF_DEFAULT, keys.log_key(7, 7), None)
    put(the(store.raft_db), CF_DEFAULT, keys.pending_snapshot_key(7), b"marker")
    assert recovery.bad_regions(store) == []


def test_a_directory_without_a_store_is_not_judged() -> None:
    with pytest.raises(NotThere, match="no identity"):
        recovery.bad_regions(Inspector(MemoryEngine((CF_DEFAULT,)), MemoryEngine()))


@pytest.mark.parametrize(
    ("members", "failed", "lost"),
    [
        ({1: VOTER, 2: VOTER, 3: VOTER}, {2}, False),
        ({1: VOTER, 2: VOTER, 3: VOTER}, {2, 3}, True),
        ({1: VOTER, 2: VOTER}, {2}, True),
        ({1: VOTER}, {2}, False),
        ({1: VOTER, 2: LEARNER, 3: LEARNER}, {2, 3}, False),
        ({1: VOTER, 2: VOTER, 3: VOTER, 4: VOTER}, {3, 4}, True),
        ({1: VOTER, 2: VOTER, 3: DEMOTING, 4: INCOMING}, {4}, False),
        ({1: VOTER, 2: VOTER, 3: DEMOTING, 4: INCOMING}, {2, 4}, True),
        ({1: VOTER, 2: DEMOTING, 3: INCOMING}, {2}, True),
        ({1: VOTER, 2: DEMOTING, 3: INCOMING}, {3}, True),
    ],
)
def test_when_a_majority_is_lost(members: Members, failed: set[int], *, lost: bool) -> None:
    assert recovery.has_lost_majority(region(7, members=members), failed) is lost


def peers_of(store: Inspector, region_id: int) -> list[int]:
    return [peer.store_id for peer in store.region_state(region_id).region.peers]


def test_only_regions_that_lost_their_majority_are_changed() -> None:
    store = a_store(
        region(7, b"", b"c"),
        region(8, b"c", b"f", {1: VOTER, 2: VOTER, 4: VOTER}),
        region(9, b"f", b"i", {1: VOTER, 4: VOTER, 5: VOTER}),
        region(10, b"i", b"", {1: LEARNER, 2: VOTER, 3: VOTER}),
    )
    done = {one.region_id: one for one in recovery.remove_failed_stores(store, {2, 3}, None, force=False)}
    assert {number for number, one in done.items() if one.changed} == {7}
    assert done[7].text == "peers 71 on store 1, 72 on store 2, 73 on store 3 -> 71 on store 1"
    assert "still has a majority" in done[8].text
    assert "no peer on a failed store" in done[9].text
    assert "no voter would be left" in done[10].text
    assert [peers_of(store, number) for number in (7, 8, 9, 10)] == [[1], [1, 2, 4], [1, 4, 5], [1, 2, 3]]
    epoch = store.region_state(7).region.region_epoch
    assert (epoch.conf_ver, epoch.version) == (5, 6)


def test_the_change_is_durable() -> None:
    store = a_store(region(7))
    the(store.kv_db).sync_wal()
    recovery.remove_failed_stores(store, {2, 3}, [7], force=False)
    assert peers_of(Inspector(store.raft_db, the(store.kv_db).crash()), 7) == [1]


def test_force_gives_up_replicas_of_a_region_with_a_majority() -> None:
    store = a_store(region(7))
    (kept,) = recovery.remove_failed_stores(store, {2}, [7], force=False)
    assert not kept.changed
    (done,) = recovery.remove_failed_stores(store, {2}, [7], force=True)
    assert done.changed
    assert peers_of(store, 7) == [1, 3]


def test_a_tombstone_is_left_alone() -> None:
    store = a_store(region(7), state=serverpb.Tombstone)
    assert recovery.remove_failed_stores(store, {2, 3}, None, force=True) == []
    (done,) = recovery.remove_failed_stores(store, {2, 3}, [7], force=True)
    assert "Tombstone" in done.text


def test_a_region_that_is_being_merged_is_left_alone() -> None:
    store = a_store(region(7), state=serverpb.Merging)
    (done,) = recovery.remove_failed_stores(store, {2, 3}, None, force=True)
    assert (done.changed, done.text) == (False, "left alone: its state is Merging")
    assert peers_of(store, 7) == [1, 2, 3]


@pytest.mark.parametrize(
    ("failed", "regions", "says"),
    [({OWN}, None, "itself"), (set(), None, "name the failed"), ({2}, [7, 99], "region 99")],
)
def test_requests_that_cannot_be_meant_change_nothing(failed: set[int], regions: list[int] | None, says: str) -> None:
    store = a_store(region(7))
    with pytest.raises(DbError, match=says):
        recovery.remove_failed_stores(store, failed, regions, force=True)
    assert peers_of(store, 7) == [1, 2, 3]
