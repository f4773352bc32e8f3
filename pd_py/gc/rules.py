"""The rules of safe points. Pure: a state in, the next one or a refusal out.

    txn safe point   transactions that started before it may find their versions gone
    GC safe point    stores drop versions that only reads before it need
    barrier          a timestamp that the txn safe point may not pass until the barrier ends

Invariants: neither safe point goes back; GC safe point <= txn safe point; an advance never takes the txn safe point past a barrier
that holds, or past the oldest transaction that a TiDB server has reported. (A report or a barrier of an old client may already be
behind it: then it stays where it is.)

A barrier that was once found over is removed with the next advance: a clock that went back must not bring it to life again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pd_py.gc.errors import (
    DecreasingGcSafePoint,
    DecreasingTxnSafePoint,
    GcSafePointExceedsTxnSafePoint,
    InvalidArgument,
)

GC_WORKER = "gc_worker"
NATIVE_BR = "native_br"
MAX_INT64 = (1 << 63) - 1
MAX_TTL_S = MAX_INT64 // 1_000_000_000
"""A longer time to live has no end: it does not fit into nanoseconds."""
MAX_BARRIER_ID = 512


@dataclass(frozen=True, slots=True)
class Barrier:
    """`expires_at_s` is in seconds since the epoch; None for never."""

    barrier_id: str
    barrier_ts: int
    expires_at_s: int | None
    is_global: bool = False

    def is_over(self, now_ms: int) -> bool:
        """Whether it holds nothing back any more."""
        return self.expires_at_s is not None and now_ms > self.expires_at_s * 1000

    def ttl_s(self, now_ms: int) -> int:
        """Whole seconds left; the largest number for one without an end."""
        return MAX_INT64 if self.expires_at_s is None else max((self.expires_at_s * 1000 - now_ms) // 1000, 0)

    def __str__(self) -> str:
        kind = "GlobalGCBarrier" if self.is_global else "GCBarrier"
        end = "<nil>" if self.expires_at_s is None else _time(self.expires_at_s)
        return f'{kind} {{ BarrierID: "{self.barrier_id}", BarrierTS: {self.barrier_ts}, ExpirationTime: "{end}" }}'


def _time(seconds: int) -> str:
    try:
        return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S} +0000 UTC"
    except OverflowError:
        return f"{seconds} s after 1970"


@dataclass(frozen=True, slots=True)
class GcState:
    """Everything that decisions are made from."""

    txn_safe_point: int = 0
    gc_safe_point: int = 0
    barriers: tuple[Barrier, ...] = ()
    global_barriers: tuple[Barrier, ...] = ()
    min_start_ts: tuple[tuple[str, int], ...] = ()
    """(who, timestamp): the oldest transaction of each TiDB server of the old kind."""


@dataclass(frozen=True, slots=True)
class Advance:
    """What became of an advance of the txn safe point."""

    old: int
    new: int
    blocker: str = ""
    """Why it is not where it should be; for people."""
    blocker_id: str = ""
    """What held it back, as the old interface names it."""
    over: tuple[Barrier, ...] = ()
    """Barriers that must be removed with this."""


def advance_txn_safe_point(state: GcState, target: int, now_ms: int) -> Advance:
    """How far it gets. Raises DecreasingTxnSafePoint."""
    old = state.txn_safe_point
    if target < old:
        raise DecreasingTxnSafePoint(old, target)
    lowest, blocker, blocker_id = target, "", ""
    over = tuple(one for one in (*state.barriers, *state.global_barriers) if one.is_over(now_ms))
    for barrier in state.barriers:
        if not barrier.is_over(now_ms) and barrier.barrier_ts < lowest:
            lowest, blocker, blocker_id = barrier.barrier_ts, str(barrier), barrier.barrier_id
    for owner, start_ts in state.min_start_ts:
        if 0 < start_ts < lowest:
            lowest = start_ts
            blocker = f'TiDBMinStartTS {{ Key: "{owner}", MinStartTS: {max(old, start_ts)} }}'
            blocker_id = f"tidb_min_start_ts_{owner}"
    for barrier in state.global_barriers:
        if not barrier.is_over(now_ms) and barrier.barrier_ts < lowest:
            lowest, blocker, blocker_id = barrier.barrier_ts, str(barrier), barrier.barrier_id
    return Advance(old, max(old, lowest), blocker, blocker_id, over)


def advance_gc_safe_point(state: GcState, target: int) -> int:
    """The new GC safe point. Raises DecreasingGcSafePoint, GcSafePointExceedsTxnSafePoint."""
    if target < state.gc_safe_point:
        raise DecreasingGcSafePoint(state.gc_safe_point, target)
    if target > state.txn_safe_point:
        raise GcSafePointExceedsTxnSafePoint(state.gc_safe_point, target, state.txn_safe_point)
    return target


def new_barrier(barrier_id: str, barrier_ts: int, ttl_s: int, now_ms: int, *, is_global: bool = False) -> Barrier:
    """A barrier that lasts at least `ttl_s` from now. Raises InvalidArgument."""
    if ttl_s <= 0:
        raise InvalidArgument("ttl", ttl_s)
    check_barrier_id(barrier_id)
    expires_at_s = None if ttl_s > MAX_TTL_S else -(-(now_ms + ttl_s * 1000) // 1000)
    return Barrier(barrier_id, barrier_ts, expires_at_s, is_global)


def check_barrier_id(barrier_id: str) -> None:
    """Raise InvalidArgument for an id that cannot be."""
    if not barrier_id or len(barrier_id) > MAX_BARRIER_ID:
        raise InvalidArgument("barrierID", barrier_id[:MAX_BARRIER_ID])
