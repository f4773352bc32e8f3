"""The rules of safe points hold whatever is called in whatever order."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from pd_py.gc.errors import GcError
from pd_py.gc.manager import NULL_KEYSPACE, GcManager
from pd_py.gc.rules import MAX_INT64
from tests.support.local_kv import LocalKv

TS = st.integers(0, 30)
IDS = st.sampled_from(["a", "b", "native_br"])
TTL = st.sampled_from([-1, 0, 1, 5, MAX_INT64])
CALLS = st.one_of(
    st.tuples(st.just("advance_txn_safe_point"), st.just(NULL_KEYSPACE), TS),
    st.tuples(st.just("advance_gc_safe_point"), st.just(NULL_KEYSPACE), TS),
    st.tuples(st.just("update_gc_safe_point"), TS),
    st.tuples(st.just("set_gc_barrier"), st.just(NULL_KEYSPACE), IDS, TS, TTL),
    st.tuples(st.just("set_global_gc_barrier"), IDS, TS, TTL),
    st.tuples(st.just("delete_gc_barrier"), st.just(NULL_KEYSPACE), IDS),
    st.tuples(st.just("update_service_gc_safe_point"), IDS | st.just("gc_worker"), TS, TTL),
    st.tuples(st.just("wait"), st.integers(1, 4)),
    st.tuples(st.just("report"), TS),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(CALLS, max_size=25))
def test_safe_points_never_go_back_nor_past_what_holds_them(calls: list[tuple[Any, ...]]) -> None:
    async def main() -> None:
        store = LocalKv()
        gc = GcManager(store, "/pd/1", LoopClock())
        reported = 0
        for name, *arguments in calls:
            before, global_before = gc.get_gc_state(NULL_KEYSPACE)
            held = [one for one in (*before.barriers, *global_before) if not one.is_over(gc.now_ms())]
            if name == "wait":
                await asyncio.sleep(arguments[0])
            elif name == "report":
                reported = arguments[0]
                await store.write({"/tidb/server/minstartts/t": str(reported).encode()})
            else:
                try:
                    await getattr(gc, name)(*arguments)
                except GcError:
                    assert gc.get_gc_state(NULL_KEYSPACE) == (before, global_before)
            after, global_after = gc.get_gc_state(NULL_KEYSPACE)
            assert after.gc_safe_point >= before.gc_safe_point
            assert after.txn_safe_point >= before.txn_safe_point
            assert after.gc_safe_point <= after.txn_safe_point
            if after.txn_safe_point > before.txn_safe_point:
                assert all(after.txn_safe_point <= one.barrier_ts for one in held)
                assert not reported or after.txn_safe_point <= reported
            for one in (*after.barriers, *global_after):
                assert one.is_over(gc.now_ms()) or one.barrier_ts >= after.txn_safe_point

    run_virtual(main())
