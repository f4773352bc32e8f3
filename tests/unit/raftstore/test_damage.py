"""A store whose records are damaged stops, and says which region, what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core_py.errors import DataCorruption, InvariantViolation, StorageError
from core_py.region_errors import ServerIsBusy
from core_py.runtime import tasks
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tests.unit.raftstore.support import REGION, Bench, bench, engines_with, first_region
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_DEFAULT, CF_RAFT
from tikv_py.mvcc.txn import Modify
from tikv_py.raftstore import keys
from tikv_py.raftstore.commands import write_command
from tikv_py.txn.context import RegionAccess

Engines = tuple[MemoryEngine, MemoryEngine]


def put(engine: MemoryEngine, cf: str, key: bytes, value: bytes) -> None:
    batch = engine.batch()
    batch.put(cf, key, value)
    engine.write(batch)


def delete(engine: MemoryEngine, cf: str, key: bytes) -> None:
    batch = engine.batch()
    batch.delete(cf, key)
    engine.write(batch)


async def with_log() -> Engines:
    """What a store leaves that has applied entries 6 to 8 and holds 9."""
    async with bench() as one:
        await one.heartbeat()
        data = [write_command(one.peer.region, [Modify("default", b"zk%d" % at, b"v")]) for at in range(4)]
        await one.append(data, commit=8)
        assert one.peer.storage.apply_state.applied_index == 8
        return one.raft_db, one.kv_db


def _region_state(engines: Engines) -> None:
    put(engines[1], CF_RAFT, keys.region_state_key(REGION), b"\xff\xff\xff")


def _other_region_state(engines: Engines) -> None:
    other = first_region()
    other.id = 9
    put(
        engines[1],
        CF_RAFT,
        keys.region_state_key(REGION),
        serverpb.RegionLocalState(region=other).SerializeToString(),
    )


def _apply_state(engines: Engines) -> None:
    put(engines[1], CF_RAFT, keys.apply_state_key(REGION), b"\xff\xff\xff")


def _raft_state(engines: Engines) -> None:
    put(engines[0], CF_DEFAULT, keys.raft_state_key(REGION), b"\xff\xff\xff")


def _applied_ahead(engines: Engines) -> None:
    state = serverpb.RaftApplyState(applied_index=20)
    state.truncated_state.index, state.truncated_state.term = 5, 5
    put(engines[1], CF_RAFT, keys.apply_state_key(REGION), state.SerializeToString())


def _lost_log(engines: Engines) -> None:
    state = serverpb.RaftLocalState(last_index=7)
    state.hard_state.term = 6
    put(engines[0], CF_DEFAULT, keys.raft_state_key(REGION), state.SerializeToString())


def _committed_ahead(engines: Engines) -> None:
    state = serverpb.RaftLocalState(last_index=9)
    state.hard_state.term, state.hard_state.commit = 6, 12
    put(engines[0], CF_DEFAULT, keys.raft_state_key(REGION), state.SerializeToString())


def _first_entry(engines: Engines) -> None:
    delete(engines[0], CF_DEFAULT, keys.log_key(REGION, 6))


def _last_entry(engines: Engines) -> None:
    delete(engines[0], CF_DEFAULT, keys.log_key(REGION, 9))


def _unreadable_entry(engines: Engines) -> None:
    put(engines[0], CF_DEFAULT, keys.log_key(REGION, 9), b"\xff\xff\xff")


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (_region_state, "its region state cannot be read"),
        (_other_region_state, "its region state is that of region 9"),
        (_apply_state, "its apply state cannot be read"),
        (_raft_state, "its raft state cannot be read"),
        (_applied_ahead, "applied index 20 is past the log's end 9"),
        (_lost_log, "applied index 8 is past the log's end 7"),
        (_committed_ahead, "index 12 is committed, past the log's end 9"),
        (_first_entry, "entry 6 is missing from its raft log, which has 6 to 9"),
        (_last_entry, "entry 9 is missing from its raft log, which has 6 to 9"),
        (_unreadable_entry, "its raft log cannot be read"),
    ],
)
def test_a_damaged_record_is_refused_at_start(damage: Callable[[Engines], None], found: str) -> None:
    async def scenario() -> None:
        engines = await with_log()
        damage(engines)
        with pytest.raises(DataCorruption) as caught:
            await Bench(*engines).store.start()
        assert caught.value.message.startswith(f"region {REGION}: ")
        assert found in caught.value.message
        assert "bad-regions" in caught.value.message
        assert "replace this store" in caught.value.message

    run_virtual(scenario())


def test_overlapping_regions_are_refused_at_start() -> None:
    async def scenario() -> None:
        left, right = first_region(), first_region()
        left.end_key = b"m"
        right.id, right.start_key = 2, b"k"
        for peer in right.peers:
            peer.id += 10
        with pytest.raises(DataCorruption, match=r"region 2: its range \[6b, \+inf\) overlaps with region 1 \[, 6d\)"):
            await Bench(*engines_with(left, right)).store.start()

    run_virtual(scenario())


def test_a_hole_between_the_ends_of_a_log_stops_the_store_when_it_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        stopped: list[BaseException] = []
        monkeypatch.setattr(tasks, "stop_process", stopped.append)
        raft_db, kv_db = await with_log()
        delete(raft_db, CF_DEFAULT, keys.log_key(REGION, 7))
        state = serverpb.RaftApplyState(applied_index=6)  # 7 and 8 are to be applied again
        state.truncated_state.index, state.truncated_state.term = 5, 5
        put(kv_db, CF_RAFT, keys.apply_state_key(REGION), state.SerializeToString())
        one = Bench(raft_db, kv_db)
        await one.store.start()
        await one.settle()
        assert len(stopped) == 1
        text = str(stopped[0])
        for part in ("region 1", "peer 11", "term 6", "applied 6", "only 1 are in the raft log", "replace this store"):
            assert part in text, text
        with pytest.raises(InvariantViolation):
            await one.store.stop()

    run_virtual(scenario())


def test_a_committed_entry_that_cannot_be_read_stops_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        stopped: list[BaseException] = []
        monkeypatch.setattr(tasks, "stop_process", stopped.append)
        one = Bench(*engines_with(first_region()))
        await one.store.start()
        await one.heartbeat()
        await one.append([b"\xff\xff\xff"], commit=6)
        assert one.peer.storage.apply_state.applied_index == 5
        assert len(stopped) == 1
        assert "region 1, peer 11" in str(stopped[0])
        assert "committed entry 6 of term 6 cannot be read" in str(stopped[0])
        with pytest.raises(InvariantViolation):
            await one.store.stop()

    run_virtual(scenario())


class FailingEngine(MemoryEngine):
    """Takes no writes or syncs once told so."""

    full = False
    unsynced = False

    def write(self, batch: object) -> None:
        if self.full:
            raise StorageError("database /data/db: writing failed: No space left on device")
        super().write(batch)  # type: ignore[arg-type]

    def sync_wal(self) -> None:
        if self.unsynced:
            raise StorageError("database /data/raft: syncing failed: Input/output error")
        super().sync_wal()


@pytest.mark.parametrize("which", ["kv write", "raft write", "raft sync"])
def test_a_store_whose_database_fails_answers_nothing_more_and_ends(which: str) -> None:
    async def scenario() -> None:
        raft_db, kv_db = FailingEngine((CF_DEFAULT,)), FailingEngine()
        made = engines_with(first_region())[1]
        batch = kv_db.batch()
        for key, value in made.scan(CF_RAFT, b"", b""):
            batch.put(CF_RAFT, key, value)
        kv_db.write(batch)
        one = Bench(raft_db, kv_db)
        failures: list[BaseException] = []
        one.store.scope = tasks.TaskScope("store", on_failure=failures.append)
        await one.store.start()
        await one.heartbeat()
        access = RegionAccess(one.store)
        context = kvrpcpb_pb2.Context(region_id=REGION)
        context.region_epoch.CopyFrom(one.peer.region.region_epoch)
        assert access.check(context) is one.peer
        sent = len(one.router.sent)
        kv_db.full, raft_db.full, raft_db.unsynced = which == "kv write", which == "raft write", which == "raft sync"
        await one.append([write_command(one.peer.region, [Modify("default", b"zk", b"v")])], commit=6)
        assert [type(error) for error in failures] == [StorageError]
        assert "/data/" in str(failures[0])
        assert kv_db.get(CF_DEFAULT, b"zk") is None or which == "raft sync"
        promised = [message.message.index for message in one.router.sent[sent:]]
        assert 6 not in promised or which == "kv write", "nothing was promised that is not in the synced log"
        with pytest.raises(ServerIsBusy, match="store 1 is stopping"):
            access.check(context)
        await one.store.stop()

    run_virtual(scenario())


def test_a_data_directory_of_another_store_is_refused() -> None:
    async def scenario() -> None:
        region = first_region()
        del region.peers[0]
        with pytest.raises(DataCorruption, match="has no peer on store 1: the data directory is another store's"):
            await Bench(*engines_with(region)).store.start()

    run_virtual(scenario())
