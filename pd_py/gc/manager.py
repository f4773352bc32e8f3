"""The GC state of the cluster: one method for each RPC, in plain values. Lives in one term of leadership.

Decisions are made one at a time (a lock is held from reading the state to the end of the write that depends on it) by the rules in
`rules.py`, on what `storage.py` reads. Only the unified GC of all keyspaces exists: user calls for the DEFAULT keyspace act on it,
the calls of a GC worker for it are refused, as public PD does for a keyspace without a GC of its own.

Raises GcError and its kinds for refusals; NotLeader, ProposalLost, OutcomeUnknown as the store does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from core_py.ports import Clock
from pd_py.gc import rules
from pd_py.gc.errors import (
    BarrierBehindTxnSafePoint,
    GcOnInvalidKeyspace,
    GcSafePointExceedsTxnSafePoint,
    GcWorkerTtl,
    GlobalBarrierBehindTxnSafePoint,
    InvalidArgument,
    KeyspaceNotFound,
    ReservedBarrierId,
)
from pd_py.gc.rules import GC_WORKER, MAX_INT64, NATIVE_BR, Advance, Barrier, GcState
from pd_py.gc.storage import GcStorage, service_safe_point
from pd_py.metastore.port import Metadata

NULL_KEYSPACE = 0xFFFFFFFF
DEFAULT_KEYSPACE = 0
_VALID_KEYSPACES = 1 << 24
MAX_BARRIERS = 10_000


@dataclass(frozen=True, slots=True)
class KeyspaceGcState:
    """The state as one keyspace sees it."""

    keyspace_id: int
    is_keyspace_level: bool
    txn_safe_point: int
    gc_safe_point: int
    barriers: tuple[Barrier, ...]


@dataclass(frozen=True, slots=True)
class ServiceSafePoint:
    """The lowest service safe point, as callers of the old interface expect it."""

    service_id: str
    ttl_s: int
    safe_point: int


class GcManager:
    """All calls. `prefix` is the cluster's (`/pd/{id}`)."""

    def __init__(self, store: Metadata, prefix: str, clock: Clock) -> None:
        self._storage = GcStorage(store, prefix)
        self._clock = clock
        self._deciding = asyncio.Lock()

    def now_ms(self) -> int:
        """What barriers end by: milliseconds since the epoch."""
        return self._clock.wall_ms()

    # ---- safe points ----

    async def advance_txn_safe_point(self, keyspace_id: int, target: int) -> Advance:
        """AdvanceTxnSafePoint: as far as nothing blocks it. Raises DecreasingTxnSafePoint."""
        _require_own_gc(keyspace_id)
        async with self._deciding:
            return await self._advance_txn(target)

    async def _advance_txn(self, target: int) -> Advance:
        advance = rules.advance_txn_safe_point(self._storage.load(), target, self.now_ms())
        if advance.new != advance.old or advance.over:
            await self._storage.write(txn_safe_point=advance.new, remove=advance.over)
        return advance

    async def advance_gc_safe_point(self, keyspace_id: int, target: int) -> tuple[int, int]:
        """AdvanceGCSafePoint: (old, new). Raises DecreasingGcSafePoint, GcSafePointExceedsTxnSafePoint."""
        _require_own_gc(keyspace_id)
        async with self._deciding:
            state = self._storage.load()
            new = rules.advance_gc_safe_point(state, target)
            if new != state.gc_safe_point:
                await self._storage.write(gc_safe_point=new)
            return state.gc_safe_point, new

    def get_gc_safe_point(self, keyspace_id: int = NULL_KEYSPACE) -> int:
        """GetGCSafePoint and its V2."""
        _require_own_gc(keyspace_id)
        return self._storage.load().gc_safe_point

    async def update_gc_safe_point(self, target: int, keyspace_id: int = NULL_KEYSPACE) -> int:
        """UpdateGCSafePoint and its V2, for old clients: what the GC safe point is now; a smaller target is no error.

        Beyond public PD: a target above the txn safe point takes that one along if nothing blocks it, in the same write. Public PD
        refuses it, and so the `gc()` of clients that know no txn safe point (client-rust and the Python wheel over it) would never
        succeed. Blocked, it is refused here too, and nothing moves.
        """
        _require_own_gc(keyspace_id)
        async with self._deciding:
            state = self._storage.load()
            if target <= state.gc_safe_point:
                return state.gc_safe_point
            if target <= state.txn_safe_point:
                await self._storage.write(gc_safe_point=target)
                return target
            advance = rules.advance_txn_safe_point(state, target, self.now_ms())
            if advance.new != target:
                raise GcSafePointExceedsTxnSafePoint(state.gc_safe_point, target, state.txn_safe_point)
            await self._storage.write(txn_safe_point=target, gc_safe_point=target, remove=advance.over)
            return target

    # ---- barriers ----

    async def set_gc_barrier(self, keyspace_id: int, barrier_id: str, barrier_ts: int, ttl_s: int) -> Barrier:
        """SetGCBarrier: new, or in place of the one with this id.

        Raises BarrierBehindTxnSafePoint, ReservedBarrierId, InvalidArgument.
        """
        _user_keyspace(keyspace_id)
        async with self._deciding:
            return await self._set_barrier(barrier_id, barrier_ts, ttl_s)

    async def _set_barrier(self, barrier_id: str, barrier_ts: int, ttl_s: int) -> Barrier:
        if barrier_id == GC_WORKER:
            raise ReservedBarrierId(barrier_id)
        barrier = rules.new_barrier(barrier_id, barrier_ts, ttl_s, self.now_ms())
        state = self._storage.load()
        if barrier_ts < state.txn_safe_point:
            raise BarrierBehindTxnSafePoint(barrier_ts, state.txn_safe_point)
        _check_room(state.barriers, barrier_id)
        await self._storage.write(put=(barrier,))
        return barrier

    async def delete_gc_barrier(self, keyspace_id: int, barrier_id: str) -> Barrier | None:
        """DeleteGCBarrier: what was there. Raises ReservedBarrierId, InvalidArgument."""
        _user_keyspace(keyspace_id)
        async with self._deciding:
            return await self._delete_barrier(barrier_id)

    async def _delete_barrier(self, barrier_id: str) -> Barrier | None:
        if barrier_id == GC_WORKER:
            raise ReservedBarrierId(barrier_id)
        rules.check_barrier_id(barrier_id)
        found = _find(self._storage.load().barriers, barrier_id)
        if found is not None:
            await self._storage.write(remove=(found,))
        return found

    async def set_global_gc_barrier(self, barrier_id: str, barrier_ts: int, ttl_s: int) -> Barrier:
        """SetGlobalGCBarrier: holds every keyspace back. Raises GlobalBarrierBehindTxnSafePoint, InvalidArgument."""
        async with self._deciding:
            barrier = rules.new_barrier(barrier_id, barrier_ts, ttl_s, self.now_ms(), is_global=True)
            state = self._storage.load()
            if barrier_ts < state.txn_safe_point:
                raise GlobalBarrierBehindTxnSafePoint(barrier_ts, state.txn_safe_point)
            _check_room(state.global_barriers, barrier_id)
            await self._storage.write(put=(barrier,))
            return barrier

    async def delete_global_gc_barrier(self, barrier_id: str) -> Barrier | None:
        """DeleteGlobalGCBarrier: what was there. Raises InvalidArgument."""
        rules.check_barrier_id(barrier_id)
        async with self._deciding:
            found = _find(self._storage.load().global_barriers, barrier_id)
            if found is not None:
                await self._storage.write(remove=(found,))
            return found

    # ---- states ----

    def get_gc_state(
        self, keyspace_id: int, *, exclude_barriers: bool = False
    ) -> tuple[KeyspaceGcState, tuple[Barrier, ...]]:
        """GetGCState: the state, and the global barriers for those who ask for them."""
        _user_keyspace(keyspace_id)
        state = self._storage.load()
        return _unified(state, exclude_barriers=exclude_barriers), state.global_barriers

    def get_all_keyspaces_gc_states(
        self, *, exclude_barriers: bool = False
    ) -> tuple[list[KeyspaceGcState], tuple[Barrier, ...]]:
        """GetAllKeyspacesGCStates: of a keyspace without a GC of its own there is only that it has none."""
        state = self._storage.load()
        states = [
            KeyspaceGcState(DEFAULT_KEYSPACE, False, 0, 0, ()),  # noqa: FBT003
            _unified(state, exclude_barriers=exclude_barriers),
        ]
        return states, state.global_barriers

    # ---- the old interface ----

    async def update_service_gc_safe_point(
        self, service_id: str, safe_point: int, ttl_s: int, keyspace_id: int = NULL_KEYSPACE
    ) -> ServiceSafePoint:
        """UpdateServiceGCSafePoint and its V2, in terms of the new one; the lowest service safe point afterwards.

        "gc_worker" advances the txn safe point (and must never end), "native_br" is a global barrier, any other is a barrier; a
        time to live that is not positive removes it. A safe point that is behind already is not set; the answer, above it, says so.
        """
        _user_keyspace(keyspace_id)
        if service_id == GC_WORKER:
            return await self._update_gc_worker(safe_point, ttl_s)
        is_global = service_id == NATIVE_BR and keyspace_id >= _VALID_KEYSPACES
        try:
            if is_global and ttl_s > 0:
                await self.set_global_gc_barrier(service_id, safe_point, ttl_s)
            elif is_global:
                await self.delete_global_gc_barrier(service_id)
            elif ttl_s > 0:
                await self.set_gc_barrier(keyspace_id, service_id, safe_point, ttl_s)
            else:
                await self.delete_gc_barrier(keyspace_id, service_id)
        except (BarrierBehindTxnSafePoint, GlobalBarrierBehindTxnSafePoint):
            pass  # the old interface says so by the safe point it answers, which is above the one asked for
        return self._as_old(GC_WORKER, self._storage.load().txn_safe_point)

    async def _update_gc_worker(self, safe_point: int, ttl_s: int) -> ServiceSafePoint:
        if ttl_s != MAX_INT64:
            raise GcWorkerTtl
        async with self._deciding:
            advance = await self._advance_txn(safe_point)
        return self._as_old(GC_WORKER if advance.new == safe_point else advance.blocker_id, advance.new)

    def _as_old(self, service_id: str, safe_point: int) -> ServiceSafePoint:
        return ServiceSafePoint(service_id, MAX_INT64 - self.now_ms() // 1000, safe_point)

    def list_service_safe_points(self) -> dict[str, Any]:
        """GET /pd/api/v1/gc/safepoint, as public JSON. The GC worker's is the txn safe point."""
        state = self._storage.load()
        worker = Barrier(GC_WORKER, state.txn_safe_point, None)
        holding = [one for one in state.barriers if not one.is_over(self.now_ms())]
        lowest = min(one.barrier_ts for one in (*holding, worker))
        answer: dict[str, Any] = {
            "service_gc_safe_points": [service_safe_point(one) for one in (*state.barriers, worker)]
        }
        if lowest:
            answer["min_service_gc_safe_point"] = lowest
        answer["gc_safe_point"] = state.gc_safe_point
        return answer

    async def delete_service_safe_point(self, service_id: str) -> None:
        """DELETE /pd/api/v1/gc/safepoint/{service_id}; one that is not there is no error."""
        rules.check_barrier_id(service_id)
        async with self._deciding:
            await self._storage.write(remove=(Barrier(service_id, 0, None),))


def _unified(state: GcState, *, exclude_barriers: bool) -> KeyspaceGcState:
    barriers = () if exclude_barriers else state.barriers
    return KeyspaceGcState(NULL_KEYSPACE, False, state.txn_safe_point, state.gc_safe_point, barriers)  # noqa: FBT003


def _user_keyspace(keyspace_id: int) -> None:
    """Calls of users work for every keyspace that exists. Raises KeyspaceNotFound."""
    if keyspace_id != DEFAULT_KEYSPACE and keyspace_id < _VALID_KEYSPACES:
        raise KeyspaceNotFound


def _require_own_gc(keyspace_id: int) -> None:
    """Calls of a GC worker only for what has a GC. Raises KeyspaceNotFound, GcOnInvalidKeyspace."""
    _user_keyspace(keyspace_id)
    if keyspace_id < _VALID_KEYSPACES:
        raise GcOnInvalidKeyspace("DEFAULT", keyspace_id)


def _find(barriers: tuple[Barrier, ...], barrier_id: str) -> Barrier | None:
    return next((one for one in barriers if one.barrier_id == barrier_id), None)


def _check_room(barriers: tuple[Barrier, ...], barrier_id: str) -> None:
    if len(barriers) >= MAX_BARRIERS and _find(barriers, barrier_id) is None:
        raise InvalidArgument("barrierID", f"{barrier_id}: there are {len(barriers)} barriers already")
