"""Runs a member's Raft node: ticks, messages, disk, apply, and the callers who wait for it.

One task takes `Ready`s in order and does what `core_py/raft/ready.py` says: send what promises nothing, write and sync, then send
what promises, apply, answer. Proposals that come while a sync runs share the next one (group commit). Nobody else writes the log.

Invariants: a caller is answered after its entry was applied here, by (index, term), so never for somebody else's entry; an
error of the disk ends the member (nothing may be believed after it); ticks are never closer together than their interval, which
other members' leases rely on. Does not know what the keys mean, nor who may write: `replicated.py` and `pd_py.member` do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core_py.codec import eraft
from core_py.errors import DbError, invariant
from core_py.ports import Clock, Random
from core_py.raft.config import RaftConfig
from core_py.raft.messages import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeType,
    Message,
    Snapshot,
    SnapshotMeta,
    StateRole,
)
from core_py.raft.node import RawNode
from core_py.raft.ready import Ready
from core_py.runtime.log import get_logger
from pd_py.metastore.durable_log import DurableLog
from pd_py.metastore.errors import OutcomeUnknown, ProposalLost
from pd_py.metastore.lease import ClockLease
from pd_py.metastore.state_machine import StateMachine
from protos.private import metaraft_pb2, metastore_pb2

Change = metaraft_pb2.MemberChange
MIN_TICK = 0.9  # of the interval; `lease.DRIFT` allows for it
CUT_BYTES = 16 << 20
CUT_GROWTH = 4
"""The file is cut when it is larger than `CUT_BYTES` and this many times what it was after the last cut."""

_CONF_CHANGES = {
    Change.ADD_LEARNER: ConfChangeType.ADD_LEARNER,
    Change.PROMOTE: ConfChangeType.ADD_NODE,
    Change.REMOVE: ConfChangeType.REMOVE_NODE,
}


@dataclass(frozen=True, slots=True)
class RaftTimes:
    """The pace of elections."""

    tick_s: float = 0.1
    election_ticks: int = 10
    heartbeat_ticks: int = 2


class Replica:
    """One member's copy of the metadata. Construct, `run` as a task, feed `receive`."""

    def __init__(
        self,
        member_id: int,
        log: DurableLog,
        clock: Clock,
        rng: Random,
        times: RaftTimes,
        send: Callable[[Sequence[Message]], None],
        *,
        restarted: bool,
    ) -> None:
        self.member_id = member_id
        self.machine = StateMachine()
        self._log = log
        self._clock = clock
        self._send = send
        self._times = times
        applied = 0
        if log.restored is not None:
            self.machine.restore(log.restored.data)
            applied = log.restored.meta.index
        config = RaftConfig(
            id=member_id,
            election_ticks=times.election_ticks,
            heartbeat_ticks=times.heartbeat_ticks,
            read_only_lease=False,  # a lease in ticks is believed only together with the clock; see `lease_until`
            applied=applied,
            restarted=restarted,
        )
        self.node = RawNode(config, log, rng)
        log.make_snapshot = self._make_snapshot
        self._lease = ClockLease(times.election_ticks, times.tick_s)
        self._ticks = 0
        self._wake = asyncio.Event()
        self._waiting: dict[int, tuple[int, asyncio.Future[metastore_pb2.Result]]] = {}
        self._reads: dict[bytes, asyncio.Future[int]] = {}
        self._applied_waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._next_read = 0
        self._applied_term = 0
        self._cut_at = CUT_BYTES
        self._running = True
        self.on_applied: Callable[[], None] = lambda: None
        """Called after each batch of applied entries."""
        self.on_synced: Callable[[float], None] = lambda _seconds: None
        """Told how long each write and sync of the log took."""
        self.on_state: Callable[[], None] = lambda: None
        """Called when the role, the leader or the lease may have changed."""

    # ---- what others ask ----

    @property
    def leads(self) -> bool:
        """Whether this member leads and has applied everything that leaders before it promised."""
        return self.node.role is StateRole.LEADER and self._applied_term == self.node.term

    @property
    def lease_until(self) -> float:
        """Until when, on the clock, no other member can lead; 0.0 when this one does not."""
        if not self.leads or self.node.lead_transferee:
            return 0.0
        if self.node.is_alone:
            return float("inf")
        return self._lease.until(self.node.lease_tick)

    def propose(self, proposal: metaraft_pb2.Proposal) -> asyncio.Future[metastore_pb2.Result]:
        """Append at the leader; the future has the result once it is applied here.

        Raises NotLeaderError, ProposalDropped, EntryTooLarge, ConfChangeRefused. The future may fail with ProposalLost, or never
        be done while there is no quorum: wait with a limit.
        """
        change = proposal.member_change
        if proposal.HasField("member_change") and change.kind in _CONF_CHANGES:
            single = ConfChangeSingle(_CONF_CHANGES[change.kind], change.member.id)
            conf_change = ConfChange((single,))
            data = eraft.conf_change_to_bytes(conf_change, proposal.SerializeToString())
            index = self.node.propose_conf_change(conf_change, data)
        else:
            index = self.node.propose(proposal.SerializeToString())
        future: asyncio.Future[metastore_pb2.Result] = asyncio.get_running_loop().create_future()
        self._waiting[index] = (self.node.term, future)
        self._wake.set()
        return future

    async def read_index(self) -> None:
        """Wait until everything acknowledged before this call is applied here. Raises NotLeaderError, TooManyReads.

        A lost question is never answered: wait with a limit.
        """
        self._next_read += 1
        context = b"%d.%d" % (self.member_id, self._next_read)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._reads[context] = future
        try:
            self.node.read_index(context)
            self._wake.set()
            index = await future
        finally:
            self._reads.pop(context, None)
        await self.applied_to(index)

    async def applied_to(self, index: int) -> None:
        """Wait until the state machine holds everything up to `index`."""
        if self.node.applied >= index:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._applied_waiters.append((index, future))
        await future

    def receive(self, message: Message) -> None:
        """A message of another member. One that comes after the end is ignored."""
        if self._running:
            self.node.step(message)
            self._wake.set()

    def transfer_leader(self, member_id: int) -> None:
        """Hand leadership to a member. Raises NotLeaderError."""
        self.node.transfer_leader(member_id)
        self._wake.set()
        self.on_state()

    def unreachable(self, member_id: int) -> None:
        """Messages to a member are being lost."""
        self.node.report_unreachable(member_id)

    def snapshot_sent(self, member_id: int, *, ok: bool) -> None:
        """A snapshot reached a member, or did not."""
        self.node.report_snapshot(member_id, ok=ok)
        self._wake.set()

    # ---- running ----

    async def run(self) -> None:
        """Work until cancelled. Raises what the disk raises."""
        try:
            if self.node.is_alone:
                self.node.campaign()  # nobody to wait for
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tick())
                group.create_task(self._work())
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        finally:
            self._running = False
            self._drop_waiters()

    async def _tick(self) -> None:
        last = self._clock.monotonic()
        while True:
            await asyncio.sleep(self._times.tick_s)
            now = self._clock.monotonic()
            if now - last < MIN_TICK * self._times.tick_s:
                continue  # a tick too early would shorten a promise to the leader
            last = now
            self._ticks += 1
            self._lease.tick(self._ticks, now)
            self.node.tick()
            if self.node.lease_is_broken and not self.node.lead_transferee:
                self._renew_term()
            self._wake.set()

    def _renew_term(self) -> None:
        """A transfer failed, and whoever was asked may still stand for election: without a lease this member only blocks.

        So somebody is asked again, whoever is most likely to make it.
        """
        heir = self.likely_heir()
        if heir is not None:
            self.node.transfer_leader(heir)

    def likely_heir(self) -> int | None:
        """The voter that could best take over now: heard lately, with the longest log. None without one."""
        voters = [peer for peer in self.node.conf_state.voters if peer != self.member_id]
        known = [(peer, progress) for peer in voters if (progress := self.node.progress(peer)) is not None]
        active = [(progress.match, peer) for peer, progress in known if progress.recent_active]
        return max(active)[1] if active else None

    async def _work(self) -> None:
        while True:
            while self.node.has_ready():
                await self._handle(self.node.ready())
            self.on_state()
            if self._log.size_bytes > self._cut_at:
                await self._cut()
                continue
            self._wake.clear()
            if not self.node.has_ready():
                await self._wake.wait()

    async def _handle(self, ready: Ready) -> None:
        self._send(ready.messages)
        if ready.snapshot is not None or ready.entries or ready.hard_state is not None:
            began = self._clock.monotonic()
            await self._log.write(ready.snapshot, ready.entries, ready.hard_state, sync=ready.must_sync)
            if ready.must_sync:
                self.on_synced(self._clock.monotonic() - began)
        self.node.on_persist(ready.number)
        self._send(ready.persisted_messages)
        if ready.snapshot is not None:
            self._restore(ready.snapshot)
        for entry in ready.committed_entries:
            result = self.machine.apply(entry, self.node)
            self._applied_term = entry.term
            term, future = self._waiting.pop(entry.index, (0, None))
            if future is not None and not future.done():
                if term == entry.term and result is not None:
                    future.set_result(result)
                else:
                    _fail(future, ProposalLost("another leader's entry took the place of this change"))
        if ready.committed_entries:
            self.node.advance_apply_to(ready.committed_entries[-1].index)
            self._applied()
        for read in ready.read_states:
            waiter = self._reads.get(read.context)
            if waiter is not None and not waiter.done():
                waiter.set_result(read.index)

    def _applied(self) -> None:
        applied = self.node.applied
        if self._applied_waiters:
            due = [future for index, future in self._applied_waiters if index <= applied]
            self._applied_waiters = [one for one in self._applied_waiters if one[0] > applied]
            for future in due:
                if not future.done():
                    future.set_result(None)
        self.on_applied()

    def _restore(self, snapshot: Snapshot) -> None:
        get_logger().info("metadata snapshot taken in", index=snapshot.meta.index, bytes=len(snapshot.data))
        self.machine.restore(snapshot.data)
        self._applied_term = snapshot.meta.term
        self.node.advance_apply_to(snapshot.meta.index)
        self._drop_waiters()
        self._applied()

    def _make_snapshot(self) -> Snapshot:
        index = self.node.applied
        meta = SnapshotMeta(index, self.node.raft_log.term(index), self.node.conf_state)
        return Snapshot(meta, self.machine.image())

    async def _cut(self) -> None:
        invariant(self.node.applied >= self._log.first_index() - 1, "applied index behind the log")
        await self._log.cut(self._make_snapshot())
        self._cut_at = max(CUT_BYTES, CUT_GROWTH * self._log.size_bytes)

    def _drop_waiters(self) -> None:
        """What waits here cannot be answered any more."""
        waiting, self._waiting = self._waiting, {}
        for _, future in waiting.values():
            if not future.done():
                _fail(future, OutcomeUnknown("this member lost sight of the change; it may have been made"))


def _fail(future: asyncio.Future[metastore_pb2.Result], error: DbError) -> None:
    future.set_exception(error)
    future.exception()  # counts as seen: the caller may have gone away
