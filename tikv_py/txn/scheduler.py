"""Runs transactional commands: latch the keys, read the leader's newest state, decide, write through raft, wake who waits.

Invariant: between reading and writing a key nothing else writes it, because every writer holds its latch until its change is
applied. A command whose proposal is lost gives a region error; the client sends it again, and every command may arrive twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from core_py.ports import Clock
from core_py.region_errors import ServerIsBusy, UndeterminedResult
from protos.kvproto import kvrpcpb_pb2
from tikv_py.mvcc import keys
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.txn import MvccTxn
from tikv_py.raftstore.apply import Applied
from tikv_py.raftstore.disk_space import FREES
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.region import check_key
from tikv_py.txn.context import RegionAccess
from tikv_py.txn.deadline import Deadline
from tikv_py.txn.flow_control import FlowController
from tikv_py.txn.latches import DEFAULT_SLOTS, Latch, Latches
from tikv_py.txn.waiting.lock_waiting import LockWaiting

T = TypeVar("T")

COMMAND_OVERHEAD = 256  # bytes that a command holds beside its keys and values
Decision = Callable[[MvccTxn, MvccReader], T]


class Scheduler:
    """Runs commands of all regions of a store."""

    def __init__(
        self,
        access: RegionAccess,
        clock: Clock,
        pending_write_bytes: int,
        waiting: LockWaiting,
        *,
        latch_slots: int = DEFAULT_SLOTS,
        flow: FlowController | None = None,
    ) -> None:
        self._access = access
        self._store = access.store
        self._clock = clock
        self._fail = access.store.fail
        self._pending_write_bytes = pending_write_bytes
        self.held_bytes = 0
        """Of commands that wait for their latches or run."""
        self.latches = Latches(latch_slots)
        self.flow = flow or FlowController(clock)
        self.waiting = waiting

    async def run(
        self,
        context: kvrpcpb_pb2.Context,
        user_keys: Sequence[bytes],
        start_ts: int,
        decide: Decision[T],
        *,
        value_bytes: int = 0,
        disk_full_opt: int = 0,
    ) -> T:
        """Decide on the latched keys and write what was decided; returns what `decide` returned.

        `decide` raises TxnError to write nothing; `value_bytes` is what it holds beside the keys; `disk_full_opt` is what kind
        of command it is, unless its context allows it more. Raises TxnError, region errors.
        """
        size = COMMAND_OVERHEAD + value_bytes + sum(map(len, user_keys))
        if self.held_bytes and self.held_bytes + size > self._pending_write_bytes:
            raise ServerIsBusy(f"scheduler is busy: commands of {self.held_bytes} bytes wait")
        self.held_bytes += size
        self.flow.seen_bytes += value_bytes
        disk_full_opt = max(context.disk_full_opt, disk_full_opt)
        try:
            if self.flow.throttles and not disk_full_opt:
                await self.flow.admit(size, context)
            return await self._run(context, user_keys, start_ts, decide, disk_full_opt)
        finally:
            self.held_bytes -= size

    async def _run(
        self,
        context: kvrpcpb_pb2.Context,
        user_keys: Sequence[bytes],
        start_ts: int,
        decide: Decision[T],
        disk_full_opt: int,
    ) -> T:
        deadline = Deadline(context, self._clock)
        fail = self._fail
        if fail.armed and (reason := await fail.reach("scheduler_before_latch")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")
        latch = await self.latches.acquire(user_keys)
        txn = MvccTxn(start_ts)
        try:
            if fail.armed and (reason := await fail.reach("scheduler_after_latch")) is not None:
                raise ServerIsBusy(f"failpoint: {reason}")
            deadline.check()
            peer = await self._access.readable(context)
            result, written = self._decide(peer, user_keys, txn, decide, disk_full_opt)
        except BaseException:
            self.latches.release(latch)
            raise
        if written is None:
            self.latches.release(latch)
            return result
        # From here on the write happens with or without the caller, so the latch is released by its outcome.
        written.add_done_callback(lambda done: self._finish(latch, txn, done))
        await asyncio.shield(written)
        if fail.armed and await fail.reach("scheduler_after_write") is not None:
            raise UndeterminedResult(context.region_id)
        return result

    def _decide(
        self, peer: Peer, user_keys: Sequence[bytes], txn: MvccTxn, decide: Decision[T], disk_full_opt: int
    ) -> tuple[T, asyncio.Future[Applied] | None]:
        """Decide and propose in one turn: nothing may wait between the checks and the write, or they would not hold any more."""
        self._check_keys(peer, user_keys)
        if not peer.is_leader:
            raise peer.not_leader()
        result = decide(txn, MvccReader(self._store.kv_db))
        if not txn.modifies:
            return result, None
        if self._fail.armed and (reason := self._fail.hit("scheduler_before_write")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")
        concurrency = self._access.concurrency
        concurrency.publish(txn.memory_locks)
        try:
            written = peer.write(txn.modifies, [], disk_full_opt=disk_full_opt)
        except BaseException:
            concurrency.withdraw(txn.memory_locks)
            raise
        self._store.activate(peer.region.id)
        return result, written

    def run_now(
        self,
        context: kvrpcpb_pb2.Context,
        user_keys: Sequence[bytes],
        start_ts: int,
        decide: Decision[T],
        *,
        value_bytes: int = 0,
        disk_full_opt: int = 0,
    ) -> tuple[T, asyncio.Future[Applied] | None] | None:
        """Like `run`, in this turn and without a task: (what `decide` returned, the write on its way or None).

        None, and nothing is done, when there is something to wait for: a latch, a lease, the memory or flow limits.
        """
        size = COMMAND_OVERHEAD + value_bytes + sum(map(len, user_keys))
        if self._fail.armed or self.held_bytes + size > self._pending_write_bytes or self.flow.throttles:
            return None
        peer = self._access.lease_peer(context)
        latch = None if peer is None else self.latches.try_acquire(user_keys)
        if peer is None or latch is None:
            return None
        txn = MvccTxn(start_ts)
        try:
            result, written = self._decide(peer, user_keys, txn, decide, max(context.disk_full_opt, disk_full_opt))
        except BaseException:
            self.latches.release(latch)
            raise
        if written is None:
            self.latches.release(latch)
            return result, None
        self.flow.seen_bytes += value_bytes
        self.held_bytes += size
        written.add_done_callback(lambda done: self._finish(latch, txn, done, size))
        return result, written

    def _finish(self, latch: Latch, txn: MvccTxn, written: asyncio.Future[Applied], held: int = 0) -> None:
        self.held_bytes -= held
        self._access.concurrency.withdraw(txn.memory_locks)
        self.latches.release(latch)
        failed = written.cancelled() or written.exception() is not None
        if not failed:
            self.waiting.applied(txn.modifies)

    def _check_keys(self, peer: Peer, user_keys: Sequence[bytes]) -> None:
        """The encoding keeps the order and a region is one range, so the first and the last key speak for all."""
        if user_keys:
            check_key(peer.region, keys.data_key(min(user_keys))[1:])
            if len(user_keys) > 1:
                check_key(peer.region, keys.data_key(max(user_keys))[1:])

    async def write_unlatched(
        self, context: kvrpcpb_pb2.Context, ranges: list[tuple[str, bytes, bytes]], bounds_key: bytes
    ) -> None:
        """Delete whole ranges, which no latch guards: the caller promises that nothing else uses them."""
        fail = self._fail
        if fail.armed and (reason := await fail.reach("delete_range_before_write")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")
        peer = self._access.leader(context)
        check_key(peer.region, bounds_key)
        future = peer.write([], ranges, disk_full_opt=FREES)
        self._store.activate(peer.region.id)
        await future
