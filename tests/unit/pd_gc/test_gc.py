"""Safe points and barriers: the constraints, the old interface, the keys and texts that others read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from core_py.sim.clock import EPOCH_MS, LoopClock
from core_py.sim.loop import run_virtual
from pd_py.gc import manager as gc_manager
from pd_py.gc.errors import (
    BarrierBehindTxnSafePoint,
    DecreasingGcSafePoint,
    DecreasingTxnSafePoint,
    GcError,
    GcOnInvalidKeyspace,
    GcSafePointExceedsTxnSafePoint,
    GlobalBarrierBehindTxnSafePoint,
    InvalidArgument,
    KeyspaceNotFound,
    ReservedBarrierId,
    UnreadableState,
)
from pd_py.gc.manager import DEFAULT_KEYSPACE, NULL_KEYSPACE, GcManager
from pd_py.gc.rules import MAX_INT64, MAX_TTL_S
from pd_py.metastore.errors import NotLeader
from tests.support.local_kv import LocalKv

NULL = NULL_KEYSPACE
PREFIX = "/pd/42"


def run(body: Callable[[GcManager, LocalKv], Awaitable[None]]) -> None:
    async def main() -> None:
        store = LocalKv()
        await body(GcManager(store, PREFIX, LoopClock()), store)

    run_virtual(main())


def test_the_txn_safe_point_leads_and_the_gc_safe_point_follows() -> None:
    async def body(gc: GcManager, store: LocalKv) -> None:
        advance = await gc.advance_txn_safe_point(NULL, 100)
        assert (advance.old, advance.new, advance.blocker) == (0, 100, "")
        assert await gc.advance_gc_safe_point(NULL, 90) == (0, 90)
        assert gc.get_gc_safe_point() == 90
        state, global_barriers = gc.get_gc_state(NULL)
        assert (state.keyspace_id, state.is_keyspace_level) == (NULL, False)
        assert (state.txn_safe_point, state.gc_safe_point, state.barriers, global_barriers) == (100, 90, (), ())
        assert store.get("/tidb/store/gcworker/saved_safe_point") == b"100"
        assert store.get(f"{PREFIX}/gc/safe_point") == b"5a", "in hexadecimal, as public PD keeps it"
        assert store.get(f"{PREFIX}/gc/gc_state_revision") == b"2"
        commands = store.commands
        assert await gc.advance_gc_safe_point(NULL, 90) == (90, 90)
        assert (await gc.advance_txn_safe_point(NULL, 100)).new == 100
        assert store.commands == commands, "what changes nothing is not logged"

    run(body)


REFUSALS: list[tuple[Callable[[GcManager], Awaitable[object]], type[GcError], str]] = [
    (
        lambda gc: gc.advance_txn_safe_point(NULL, 99),
        DecreasingTxnSafePoint,
        (
            "[PD:gc:ErrDecreasingTxnSafePoint]trying to update txn safe point to a smaller value,"
            " current value: 100, given: 99"
        ),
    ),
    (
        lambda gc: gc.advance_gc_safe_point(NULL, 89),
        DecreasingGcSafePoint,
        (
            "[PD:gc:ErrDecreasingGCSafePoint]trying to update GC safe point to a smaller value,"
            " current value: 90, given: 89"
        ),
    ),
    (
        lambda gc: gc.advance_gc_safe_point(NULL, 101),
        GcSafePointExceedsTxnSafePoint,
        (
            "[PD:gc:ErrGCSafePointExceedsTxnSafePoint]trying to update GC safe point to a too large value that exceeds"
            " the txn safe point, current value: 90, given: 101, current txn safe point: 100"
        ),
    ),
    (
        lambda gc: gc.set_gc_barrier(NULL, "br", 99, 10),
        BarrierBehindTxnSafePoint,
        (
            "[PD:gc:ErrGCBarrierTSBehindTxnSafePoint]trying to set a GC barrier on ts 99 which is already behind the"
            " txn safe point 100"
        ),
    ),
    (
        lambda gc: gc.set_global_gc_barrier("br", 99, 10),
        GlobalBarrierBehindTxnSafePoint,
        (
            "[PD:gc:ErrGlobalGCBarrierTSBehindTxnSafePoint]trying to set a global GC barrier on ts 99 which is already"
            " behind the txn safe point 100 of keyspace <null_keyspace>"
        ),
    ),
    (
        lambda gc: gc.set_gc_barrier(NULL, "gc_worker", 200, 10),
        ReservedBarrierId,
        "[PD:gc:ErrReservedGCBarrierID]trying to set a GC barrier with a barrier ID that is reserved: gc_worker",
    ),
    (
        lambda gc: gc.set_gc_barrier(NULL, "br", 200, 0),
        InvalidArgument,
        "[PD:common:ErrInvalidArgument]invalid argument for ttl: 0",
    ),
    (
        lambda gc: gc.delete_global_gc_barrier(""),
        InvalidArgument,
        "[PD:common:ErrInvalidArgument]invalid argument for barrierID: ",
    ),
    (
        lambda gc: gc.advance_txn_safe_point(DEFAULT_KEYSPACE, 200),
        GcOnInvalidKeyspace,
        (
            "[PD:gc:ErrGCOnInvalidKeyspace]trying to manage GC in keyspace DEFAULT (id: 0) where keyspace level GC is"
            " not enabled"
        ),
    ),
    (
        lambda gc: gc.set_gc_barrier(77, "br", 200, 5),
        KeyspaceNotFound,
        "[PD:keyspace:ErrKeyspaceNotFound]keyspace does not exist",
    ),
    (
        lambda gc: gc.update_service_gc_safe_point("gc_worker", 200, 60),
        GcError,
        "TTL of gc_worker's service safe point must be infinity",
    ),
]


def test_refusals_have_the_public_texts_and_change_nothing() -> None:
    async def body(gc: GcManager, store: LocalKv) -> None:
        await gc.advance_txn_safe_point(NULL, 100)
        await gc.advance_gc_safe_point(NULL, 90)
        before = store.kv.image()
        for call, kind, text in REFUSALS:
            with pytest.raises(kind) as caught:
                await call(gc)
            assert caught.value.message == text
        assert store.kv.image() == before

    run(body)


def test_barriers_hold_the_txn_safe_point_until_they_end() -> None:
    async def body(gc: GcManager, store: LocalKv) -> None:
        barrier = await gc.set_gc_barrier(DEFAULT_KEYSPACE, "br", 50, 10)
        assert barrier.ttl_s(gc.now_ms()) == 10
        advance = await gc.advance_txn_safe_point(NULL, 100)
        assert (advance.new, advance.blocker_id) == (50, "br")
        assert advance.blocker == (
            'GCBarrier { BarrierID: "br", BarrierTS: 50, ExpirationTime: "2023-11-14 22:13:30 +0000 UTC" }'
        )
        await asyncio.sleep(9)
        assert (await gc.advance_txn_safe_point(NULL, 100)).new == 50
        await gc.set_gc_barrier(NULL, "br", 60, 10)  # lives on, further up
        await asyncio.sleep(9)
        assert (await gc.advance_txn_safe_point(NULL, 100)).new == 60
        await asyncio.sleep(1.5)
        assert [one.barrier_id for one in gc.get_gc_state(NULL)[0].barriers] == ["br"]
        assert (await gc.advance_txn_safe_point(NULL, 100)).new == 100
        assert gc.get_gc_state(NULL)[0].barriers == (), "one that is over is removed, so that no clock brings it back"
        assert store.prefix(f"{PREFIX}/gc/safe_point/service/") == []

    run(body)


def test_global_barriers_and_deletion() -> None:
    async def body(gc: GcManager, store: LocalKv) -> None:
        await gc.set_global_gc_barrier("backup", 50, MAX_INT64)
        await gc.set_gc_barrier(NULL, "cdc", 70, MAX_TTL_S + 1)
        assert gc.get_gc_state(NULL, exclude_barriers=True)[0].barriers == ()
        state, global_barriers = gc.get_gc_state(NULL)
        assert [one.expires_at_s for one in (*state.barriers, *global_barriers)] == [None, None]
        assert state.barriers[0].ttl_s(gc.now_ms()) == MAX_INT64
        key = f"{PREFIX}/gc/global_gc_barriers/backup"
        assert json.loads(store.get(key) or b"") == {"barrier_id": "backup", "barrier_ts": 50, "expiration_time": 0}
        key = f"{PREFIX}/gc/safe_point/service/cdc"
        expected = {"service_id": "cdc", "expired_at": MAX_INT64, "safe_point": 70}
        assert json.loads(store.get(key) or b"") == expected
        advance = await gc.advance_txn_safe_point(NULL, 100)
        assert (advance.new, advance.blocker_id) == (50, "backup")
        assert advance.blocker.startswith(
            'GlobalGCBarrier { BarrierID: "backup", BarrierTS: 50, ExpirationTime: "<nil>"'
        )
        assert await gc.delete_global_gc_barrier("none") is None
        deleted = await gc.delete_global_gc_barrier("backup")
        assert deleted is not None
        assert deleted.barrier_ts == 50
        assert (await gc.advance_txn_safe_point(NULL, 100)).new == 70
        assert await gc.delete_gc_barrier(NULL, "cdc") is not None
        assert await gc.delete_gc_barrier(NULL, "cdc") is None
        assert (await gc.advance_txn_safe_point(NULL, 100)).new == 100

    run(body)


def test_tidb_servers_of_the_old_kind_hold_it_back_by_their_oldest_transaction() -> None:
    async def body(gc: GcManager, store: LocalKv) -> None:
        await store.write({"/tidb/server/minstartts/a": b"60", "/tidb/server/minstartts/b": b"40"})
        advance = await gc.advance_txn_safe_point(NULL, 100)
        assert (advance.new, advance.blocker_id) == (40, "tidb_min_start_ts_b")
        assert advance.blocker == 'TiDBMinStartTS { Key: "b", MinStartTS: 40 }'
        await store.write({"/tidb/server/minstartts/b": b"10"})  # a report that is behind already
        advance = await gc.advance_txn_safe_point(NULL, 100)
        assert (advance.old, advance.new) == (40, 40)
        await store.write({"/tidb/server/minstartts/b": None, "/tidb/server/minstartts/a": b"0"})
        assert (await gc.advance_txn_safe_point(NULL, 100)).new == 100

    run(body)


def test_a_value_that_cannot_be_read_stops_every_advance_and_says_where_it_is() -> None:
    async def body(gc: GcManager, store: LocalKv) -> None:
        bad = {
            "/tidb/server/minstartts/a": b"soon",
            "/tidb/store/gcworker/saved_safe_point": b"-1",
            f"{PREFIX}/gc/safe_point": b"xyz",
            f"{PREFIX}/gc/safe_point/service/s": b"[]",
            f"{PREFIX}/gc/global_gc_barriers/s": b"{",
        }
        for key, value in bad.items():
            await store.write({key: value})
            with pytest.raises(UnreadableState, match=key):
                await gc.advance_txn_safe_point(NULL, 100)
            await store.write({key: None})
        await gc.advance_txn_safe_point(NULL, 100)

    run(body)


def test_the_old_update_takes_the_txn_safe_point_along_unless_something_blocks() -> None:
    async def body(gc: GcManager, store: LocalKv) -> None:
        assert await gc.update_gc_safe_point(100) == 100
        state = gc.get_gc_state(NULL)[0]
        assert (state.txn_safe_point, state.gc_safe_point) == (100, 100)
        assert await gc.update_gc_safe_point(50) == 100
        await gc.advance_txn_safe_point(NULL, 200)
        assert await gc.update_gc_safe_point(150) == 150
        assert gc.get_gc_state(NULL)[0].txn_safe_point == 200
        await gc.set_gc_barrier(NULL, "br", 250, 60)
        with pytest.raises(GcSafePointExceedsTxnSafePoint):
            await gc.update_gc_safe_point(300)
        state = gc.get_gc_state(NULL)[0]
        assert (state.txn_safe_point, state.gc_safe_point) == (200, 150)
        assert await gc.update_gc_safe_point(250) == 250

    run(body)


def test_service_safe_points_are_barriers_by_another_name() -> None:
    async def body(gc: GcManager, store: LocalKv) -> None:
        lowest = await gc.update_service_gc_safe_point("gc_worker", 10, MAX_INT64)
        assert (lowest.service_id, lowest.safe_point) == ("gc_worker", 10)
        assert lowest.ttl_s == MAX_INT64 - EPOCH_MS // 1000
        lowest = await gc.update_service_gc_safe_point("cdc", 50, 60)
        assert (lowest.service_id, lowest.safe_point) == ("gc_worker", 10)
        assert gc.get_gc_state(NULL)[0].barriers[0].barrier_ts == 50
        lowest = await gc.update_service_gc_safe_point("gc_worker", 100, MAX_INT64)
        assert (lowest.service_id, lowest.safe_point) == ("cdc", 50)
        lowest = await gc.update_service_gc_safe_point("late", 20, 60)
        assert (lowest.service_id, lowest.safe_point) == ("gc_worker", 50), "not set, and told from the answer"
        assert len(gc.get_gc_state(NULL)[0].barriers) == 1
        await gc.update_service_gc_safe_point("native_br", 60, 60)
        assert gc.get_gc_state(NULL)[1][0].barrier_id == "native_br"
        await gc.update_service_gc_safe_point("native_br", 0, 0)
        await gc.update_service_gc_safe_point("cdc", 0, -1)
        assert (await gc.update_service_gc_safe_point("gc_worker", 100, MAX_INT64)).safe_point == 100

    run(body)


def test_the_list_of_service_safe_points_over_http() -> None:
    async def body(gc: GcManager, store: LocalKv) -> None:
        assert gc.list_service_safe_points() == {
            "service_gc_safe_points": [{"service_id": "gc_worker", "expired_at": MAX_INT64, "safe_point": 0}],
            "gc_safe_point": 0,
        }
        await gc.advance_txn_safe_point(NULL, 10)
        await gc.set_gc_barrier(NULL, "cdc", 50, 60)
        listed = gc.list_service_safe_points()
        assert [one["service_id"] for one in listed["service_gc_safe_points"]] == ["cdc", "gc_worker"]
        assert listed["min_service_gc_safe_point"] == 10
        await gc.delete_service_safe_point("cdc")
        await gc.delete_service_safe_point("cdc")
        assert gc.get_gc_state(NULL)[0].barriers == ()

    run(body)


def test_all_keyspaces() -> None:
    async def body(gc: GcManager, store: LocalKv) -> None:
        await gc.advance_txn_safe_point(NULL, 10)
        states, _ = gc.get_all_keyspaces_gc_states()
        assert [(one.keyspace_id, one.txn_safe_point) for one in states] == [(DEFAULT_KEYSPACE, 0), (NULL, 10)]

    run(body)


def test_the_number_of_barriers_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc_manager, "MAX_BARRIERS", 2)

    async def body(gc: GcManager, store: LocalKv) -> None:
        for name in ("a", "b", "b"):
            await gc.set_gc_barrier(NULL, name, 10, 60)
        with pytest.raises(InvalidArgument):
            await gc.set_gc_barrier(NULL, "c", 10, 60)

    run(body)


def test_calls_at_once_keep_the_constraints_and_a_refused_write_changes_nothing() -> None:
    async def body(gc: GcManager, store: LocalKv) -> None:
        async def outcome(call: Awaitable[object]) -> object:
            try:
                return await call
            except GcError as error:
                return error

        calls = [gc.advance_txn_safe_point(NULL, 100 + number) for number in range(10)]
        barriers = [gc.set_gc_barrier(NULL, f"b{number}", 100 + number, 60) for number in range(10)]
        await asyncio.gather(*(outcome(call) for pair in zip(calls, barriers, strict=True) for call in pair))
        state = gc.get_gc_state(NULL)[0]
        assert all(state.txn_safe_point <= barrier.barrier_ts for barrier in state.barriers)
        store.refusal = NotLeader("not leader")
        before = store.kv.image()
        with pytest.raises(NotLeader):
            await gc.update_gc_safe_point(50)
        assert store.kv.image() == before

    run(body)
