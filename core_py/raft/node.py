"""`RawNode`: one Raft node as its driver sees it. Tick it, step messages into it, take `Ready` values out of it.

Why this shape: the node decides and the driver does (`ready.py` gives the order), so thousands of nodes share one loop,
one disk write and one network flush, and a whole cluster runs under a seed in a test (tests/sim/test_raft_safety.py).

Invariants: a node does nothing by itself, so one that is not ticked and gets no message costs nothing (hibernation);
Readys may be outstanding, and become durable in their order.

What it does not do: I/O, timers, encoding, retrying of lost reads and proposals. A leader whose owner stops ticking
keeps its lease in ticks: such an owner must bound it by a clock.
Tour: docs/architecture/raft.md. Tests: tests/unit/raft, tests/golden/raft, tests/property/test_raft_quorum.py and
test_raft_log.py, tests/sim/test_raft_safety.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from core_py.errors import invariant
from core_py.raft import election, membership, quiescence, reads, replication
from core_py.raft.config import RaftConfig, RandomSource
from core_py.raft.errors import NotLeaderError, TransferInProgress
from core_py.raft.log import RaftLog
from core_py.raft.messages import ConfChange, ConfState, Entry, EntryType, HardState, Message, MsgType, StateRole
from core_py.raft.progress import Progress
from core_py.raft.ready import Ready, SoftState
from core_py.raft.state import Raft
from core_py.raft.step import step
from core_py.raft.storage import RaftStorage


@dataclass(frozen=True, slots=True)
class Status:
    """A picture of a node for status pages; `progress` is known only at the leader, as (peer, description)."""

    id: int
    role: StateRole
    leader_id: int
    hard_state: HardState
    conf_state: ConfState
    applied: int
    persisted: int
    first_index: int
    last_index: int
    lead_transferee: int
    progress: tuple[tuple[int, str], ...]


class RawNode:
    """One Raft node; see `ready.py` for the order in which its work is done."""

    __slots__ = ("_given_hard_state", "_given_soft_state", "_number", "_persisted_number", "_raft")

    def __init__(self, config: RaftConfig, storage: RaftStorage, rng: RandomSource) -> None:
        self._raft = Raft(config, storage, rng)
        self._given_hard_state = self._raft.hard_state()
        self._given_soft_state = SoftState(StateRole.FOLLOWER, 0)
        self._number = 0
        self._persisted_number = 0

    @property
    def id(self) -> int:
        """The peer's id."""
        return self._raft.id

    @property
    def term(self) -> int:
        """The present term, durable or not."""
        return self._raft.term

    @property
    def role(self) -> StateRole:
        """The present role."""
        return self._raft.role

    @property
    def leader_id(self) -> int:
        """The leader of the present term, 0 if unknown."""
        return self._raft.leader_id

    @property
    def lead_transferee(self) -> int:
        """The peer leadership is being handed to, 0 if none; nothing is proposed meanwhile."""
        return self._raft.lead_transferee

    @property
    def raft_log(self) -> RaftLog:
        """The log, for reading."""
        return self._raft.log

    @property
    def applied(self) -> int:
        """The last index reported by `advance_apply_to`."""
        return self._raft.log.applied

    @property
    def committed(self) -> int:
        """The commit index."""
        return self._raft.log.committed

    @property
    def persisted(self) -> int:
        """The last index durable on this node."""
        return self._raft.log.persisted

    @property
    def last_index(self) -> int:
        """The last index of the log, durable or not."""
        return self._raft.log.last_index()

    @property
    def conf_state(self) -> ConfState:
        """The configuration in force."""
        return self._raft.tracker.conf

    @property
    def has_pending_conf(self) -> bool:
        """True while a leader may not propose a conf change."""
        return self._raft.has_pending_conf()

    @property
    def election_elapsed(self) -> int:
        """Ticks since the leader was heard (of a leader: since its last CheckQuorum)."""
        return self._raft.election_elapsed

    def progress(self, peer_id: int) -> Progress | None:
        """What this node knows of a peer; meaningful only at the leader, None for a stranger."""
        return self._raft.tracker.progress.get(peer_id)

    def tick(self) -> None:
        """One tick of logical time: elections, heartbeats, CheckQuorum, transfer timeout."""
        raft = self._raft
        raft.tick_count += 1
        raft.election_elapsed += 1
        if raft.role is StateRole.LEADER:
            self._tick_leader(raft)
            return
        if raft.election_elapsed >= raft.randomized_timeout and raft.is_promotable():
            raft.election_elapsed = 0
            election.begin(raft)

    @staticmethod
    def _tick_leader(raft: Raft) -> None:
        raft.heartbeat_elapsed += 1
        if raft.election_elapsed >= raft.config.election_ticks:
            raft.election_elapsed = 0
            if raft.config.check_quorum and not raft.tracker.take_quorum_active(raft.id):
                raft.become_follower(raft.term, 0)
                return
            raft.lead_transferee = 0  # it had its time
        if raft.heartbeat_elapsed >= raft.config.heartbeat_ticks:
            raft.heartbeat_elapsed = 0
            reads.broadcast_heartbeat(raft)

    def step(self, msg: Message) -> None:
        """Take in a message of another node. A stale or unexpected one is ignored."""
        step(self._raft, msg)

    def campaign(self) -> None:
        """Begin an election now (with pre-vote if configured); ignored by a leader and by a node that may not.

        A node that heard its leader less than an election timeout ago may not: that leader may hold a lease.
        """
        election.begin(self._raft)

    def _require_leader(self) -> Raft:
        raft = self._raft
        if raft.role is not StateRole.LEADER:
            raise NotLeaderError(f"peer {raft.id} is {raft.role.value}, the leader is {raft.leader_id}", raft.leader_id)
        if raft.lead_transferee:
            message = f"leadership is being handed to {raft.lead_transferee}; propose again"
            raise TransferInProgress(message, raft.lead_transferee)
        return raft

    def propose(self, data: bytes, context: bytes = b"") -> int:
        """Append data at the leader; the index it got, to be matched by (index, term) when it is committed.

        Raises NotLeaderError, TransferInProgress, TooMuchUncommitted, EntryTooLarge.
        An accepted proposal may still be lost with its leader.
        """
        return replication.append_entry(self._require_leader(), data, EntryType.NORMAL, context)

    def propose_conf_change(self, change: ConfChange, data: bytes, context: bytes = b"") -> int:
        """Append `change`, encoded by the caller as `data`; the index it got.

        Raises as `propose`; ConfChangePending while an earlier one may be unapplied, ConfChangeRefused.
        """
        return membership.propose(self._require_leader(), change, data, context)

    def apply_conf_change(self, change: ConfChange) -> ConfState:
        """Take a committed conf change into force, before `advance_apply_to` of its index; the new configuration.

        An entry of type CONF_CHANGE_V2 with empty data is the core's own: apply it as `ConfChange()`. A change that the
        owner voids is simply not applied. While a snapshot waits to become durable the change is part of it and nothing
        happens. Raises ConfChangeRefused, and then nothing has changed.
        """
        return membership.apply(self._raft, change)

    def transfer_leader(self, peer_id: int) -> None:
        """Hand leadership to a voter; at a follower the wish is forwarded. Raises NotLeaderError if nobody leads."""
        raft = self._raft
        if raft.role is StateRole.LEADER:
            membership.begin_transfer(raft, peer_id)
        elif raft.leader_id:
            raft.send(Message(MsgType.TRANSFER_LEADER, raft.leader_id, peer_id))
        else:
            raise NotLeaderError(f"peer {raft.id} knows no leader to ask for a transfer")

    def read_index(self, context: bytes) -> None:
        """Ask for an index from which a read is linearizable; the answer is a `ReadState` with this context.

        At a follower the leader is asked by message; a lost one is asked again by the caller, and all reads that
        wait at a leader are lost when it steps down. Raises NotLeaderError if nobody leads, TooManyReads.
        """
        raft = self._raft
        if raft.role is StateRole.LEADER:
            reads.request(raft, context, raft.id)
        elif raft.leader_id:
            entry = Entry(0, 0, context)
            raft.send(Message(MsgType.READ_INDEX, raft.leader_id, raft.id, entries=(entry,)))
        else:
            raise NotLeaderError(f"peer {raft.id} knows no leader to confirm a read")

    def report_unreachable(self, peer_id: int) -> None:
        """Messages to the peer are being lost: stop pipelining to it."""
        progress = self._raft.tracker.progress.get(peer_id)
        if progress is not None and self._raft.role is StateRole.LEADER:
            progress.report_unreachable()

    def report_snapshot(self, peer_id: int, ok: bool) -> None:
        """The snapshot for the peer was delivered, or was not: probe it at its next answer."""
        progress = self._raft.tracker.progress.get(peer_id)
        if progress is not None and self._raft.role is StateRole.LEADER:
            progress.report_snapshot(ok=ok)

    def has_ready(self) -> bool:
        """True if `ready` has something to give."""
        raft = self._raft
        return bool(
            raft.messages
            or raft.persisted_messages
            or raft.read_states
            or raft.append_due
            or raft.commit_due
            or raft.heartbeat_due
            or raft.log.has_unpersisted()
            or raft.log.has_committed()
            or raft.hard_state() != self._given_hard_state
            or self._soft_state() != self._given_soft_state
        )

    def _soft_state(self) -> SoftState:
        return SoftState(self._raft.role, self._raft.leader_id)

    def ready(self) -> Ready:
        """Take the work there is; it is not given again."""
        raft = self._raft
        if raft.role is StateRole.LEADER:
            replication.flush(raft)
        self._number += 1
        hard_state, soft_state = raft.hard_state(), self._soft_state()
        old, self._given_hard_state = self._given_hard_state, hard_state
        new_hard_state = hard_state if hard_state != old else None
        new_soft_state = soft_state if soft_state != self._given_soft_state else None
        self._given_soft_state = soft_state
        snapshot, entries = raft.log.take_unpersisted(self._number, new_hard_state)
        committed = raft.log.take_committed(raft.config.max_apply_bytes)
        if committed:
            freed = sum([len(entry.data) for entry in committed])
            raft.uncommitted_bytes = max(0, raft.uncommitted_bytes - freed)
        ready = Ready(
            self._number,
            new_soft_state,
            new_hard_state,
            entries,
            snapshot,
            committed,
            tuple(raft.messages),
            tuple(raft.persisted_messages),
            tuple(raft.read_states),
            # The commit index alone can be learned again, so it waits for the next sync.
            must_sync=bool(entries or snapshot) or (old.term, old.vote) != (hard_state.term, hard_state.vote),
        )
        raft.messages, raft.persisted_messages, raft.read_states = [], [], []
        return ready

    def on_persist(self, number: int) -> None:
        """What all Readys up to `number` asked to write is durable, and storage answers for it."""
        invariant(number <= self._number, f"Ready {number} is durable but only {self._number} were given")
        if number <= self._persisted_number:
            return
        self._persisted_number = number
        raft = self._raft
        hard_state = raft.log.stable_to(number)
        if hard_state is not None:
            raft.durable_hard_state = hard_state
            election.count_own_vote(raft)
        if raft.role is StateRole.LEADER:
            replication.own_log_persisted(raft)

    def advance_apply_to(self, index: int) -> None:
        """The state machine has applied everything up to `index`."""
        self._raft.log.applied_to(index)
        membership.maybe_leave_joint(self._raft)

    def in_lease(self) -> bool:
        """True if this leader's last confirmed heartbeat round is less than an election timeout of ticks old."""
        return reads.in_lease(self._raft)

    @property
    def lease_tick(self) -> int | None:
        """The tick (counted from 1 by `tick`) in which this leader sent the newest round that a quorum answered.

        None without one. For owners that bound the lease by a clock.
        """
        read_only = self._raft.read_only
        return None if read_only.lease_broken or self._raft.role is not StateRole.LEADER else read_only.lease_tick

    @property
    def lease_is_broken(self) -> bool:
        """True if this leader asked another node to take over in this term: it has no lease until somebody leads a new one."""
        return self._raft.role is StateRole.LEADER and self._raft.read_only.lease_broken

    @property
    def is_alone(self) -> bool:
        """True if this node is the only voter."""
        return self._raft.tracker.is_alone(self._raft.id)

    def is_settled(self) -> bool:
        """True if nothing is under way: the owner may stop ticking, once every member of the group says so."""
        return quiescence.is_settled(self._raft)

    def fall_asleep(self) -> None:
        """The owner stops ticking; a leader's lease ends."""
        quiescence.fall_asleep(self._raft)

    def wake(self, elapsed_ticks: int) -> None:
        """The owner ticks again, after a pause worth `elapsed_ticks`; call it before the message that ends the pause."""
        quiescence.wake(self._raft, elapsed_ticks)

    def commit_to_current_term(self) -> bool:
        """True if an entry of the node's own term is committed; before that a leader answers no reads."""
        return self._raft.commit_to_current_term()

    def status(self) -> Status:
        """A picture of the node."""
        raft = self._raft
        is_leader = raft.role is StateRole.LEADER
        progress = tuple((peer, item.describe()) for peer, item in raft.tracker.progress.items()) if is_leader else ()
        return Status(
            id=raft.id,
            role=raft.role,
            leader_id=raft.leader_id,
            hard_state=raft.hard_state(),
            conf_state=raft.tracker.conf,
            applied=raft.log.applied,
            persisted=raft.log.persisted,
            first_index=raft.log.first_index(),
            last_index=raft.log.last_index(),
            lead_transferee=raft.lead_transferee,
            progress=progress,
        )

    def check_invariants(self) -> None:
        """Raise InvariantViolation if the state is impossible."""
        self._raft.check_invariants()
