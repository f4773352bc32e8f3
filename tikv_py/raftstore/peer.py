"""One peer of one region on this store: its Raft node, its storage, and who waits for its log and reads.

Proposals wait in index order; the entry applied at an index answers the proposal made there in the same term, any other
entry there means that the proposal was lost. Reads wait for an index confirmed by the leader, then for the apply
index to reach it. Everything runs on the store loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from core_py.errors import DbError
from core_py.failpoints import UNARMED, FailPoints
from core_py.ports import Random
from core_py.raft.config import RaftConfig
from core_py.raft.errors import (
    ConfChangeRefused,
    EntryTooLarge,
    NotLeaderError,
    ProposalDropped,
    RaftError,
    TransferInProgress,
)
from core_py.raft.messages import ConfChange, Message, StateRole
from core_py.raft.node import RawNode
from core_py.region_errors import (
    EpochNotMatch,
    NotLeader,
    ProposalInMergingMode,
    RaftEntryTooLarge,
    ReadIndexNotReady,
    ServerIsBusy,
    StaleCommand,
    UndeterminedResult,
)
from protos.kvproto import metapb_pb2
from tikv_py.mvcc.errors import KeyIsLocked
from tikv_py.mvcc.txn import Modify
from tikv_py.raftstore import commands, flashback
from tikv_py.raftstore.apply import Applied, Applier, LocalWrites
from tikv_py.raftstore.commands import ORDINARY, WriteKind
from tikv_py.raftstore.config import RaftstoreConfig
from tikv_py.raftstore.disk_space import DiskSpace
from tikv_py.raftstore.load_split import HotReads
from tikv_py.raftstore.peer_storage import PeerStorage
from tikv_py.raftstore.read_context import ID_SIZE, ReadQuestion, lock_of
from tikv_py.raftstore.region import find_peer
from tikv_py.raftstore.write_budget import WriteBudget
from tikv_py.resolved_ts.progress import ReadProgress

MERGED_WRITE_MAX_BYTES = 1 << 20  # client writes of one turn share an entry up to this size
WRITE_OVERHEAD = 64  # protobuf and log overhead per change, for size estimates


@dataclass(slots=True)
class PendingWrite:
    """A client write that waits to be proposed; the future gives an `Applied`."""

    modifies: list[Modify]
    ranges: list[tuple[str, bytes, bytes]]
    size: int
    version: int
    """The region version the keys were checked against; a split in between makes the write void."""
    future: asyncio.Future[Applied]
    kind: WriteKind = ORDINARY


@dataclass(slots=True)
class Proposal:
    """An appended entry and who waits for it."""

    index: int
    term: int
    futures: list[asyncio.Future[Applied]]
    local: LocalWrites | None


@dataclass(slots=True)
class Flow:
    """Traffic since the peer began. Whoever reports it remembers how far, because there is more than one who does."""

    written_bytes: int = 0
    written_keys: int = 0
    read_bytes: int = 0
    read_keys: int = 0
    scan_surplus: int = 0
    """Keys that scans gave beyond one each, so that the other read keys count requests."""

    def since(self, earlier: Flow) -> Flow:
        """What came after an earlier copy."""
        return Flow(
            self.written_bytes - earlier.written_bytes,
            self.written_keys - earlier.written_keys,
            self.read_bytes - earlier.read_bytes,
            self.read_keys - earlier.read_keys,
            self.scan_surplus - earlier.scan_surplus,
        )


@dataclass(slots=True)
class _ReadWait:
    index: int
    future: asyncio.Future[None]


@dataclass(slots=True)
class SnapshotProgress:
    """A snapshot on its way in: the Ready that carried it and what that Ready still owes."""

    number: int
    index: int
    old_region: metapb_pb2.Region
    messages: list[Message] = field(default_factory=list)
    ended: list[metapb_pb2.Region] = field(default_factory=list)
    """Regions whose peers here end with it: they have become parts of this one."""


class Peer:
    """See the module's text."""

    def __init__(
        self,
        storage: PeerStorage,
        meta: metapb_pb2.Peer,
        config: RaftstoreConfig,
        rng: Random,
        *,
        restarted: bool,
        fail: FailPoints = UNARMED,
        disk: DiskSpace,
        budget: WriteBudget,
    ) -> None:
        self.storage = storage
        self._fail = fail
        self.peer_id = peer_id = meta.id
        self.node = RawNode(_raft_config(peer_id, storage, config, restarted=restarted), storage, rng)
        self.applier = Applier(storage, lambda: self.node, fail)
        self.pending_writes: list[PendingWrite] = []
        self.proposals: deque[Proposal] = deque()
        self.reads: dict[bytes, asyncio.Future[None]] = {}
        self.read_waits: list[_ReadWait] = []
        self.read_progress = ReadProgress()
        self.snapshot: SnapshotProgress | None = None
        self.unsynced = 0
        self.destroyed = False
        self.unwritten = False
        """Entries count as applied whose batch this turn has not written yet."""
        self.merge_asked: tuple[int, int, int] | None = None
        """(region id, term, index): whose log has the command that ends this region's merge, and where this store proposed it."""
        self.used = False
        """Read under the lease since the last tick; such reads leave no other trace."""
        self.quiet_ticks = 0
        self.sleepers: set[int] = set()
        """Members that agreed to hibernate, while this leader asks them to."""
        self.flow = Flow()
        self.hot_reads: HotReads | None = None
        """Remembers reads while there are so many that the region may be split; every read looks at it."""
        self.reported_flow = Flow()
        self.reported_s = 0
        """When PD was last told of the region, in seconds since the epoch."""
        """The part of it that PD was told."""
        self.approximate_size = 0
        self.approximate_keys = 0
        self.size_known = False
        """The approximate numbers began from a measured or empty region, not from nothing."""
        self.unmeasured_bytes = 0
        """Written since the region was last measured."""
        self.peer_cache: dict[int, metapb_pb2.Peer] = {meta.id: meta}
        """Peers learned from messages, for answers to those the region does not list (yet)."""
        self.heard: dict[int, float] = {}
        """When each follower was last heard, in seconds of the monotonic clock; the leader reports silent ones."""
        self.pending: set[int] = set()
        """Followers reported to PD as lagging; PD hears at once when one has caught up."""
        self._config = config
        self._disk = disk
        self._budget = budget
        self._lease_from = 0
        """No local reads until this index is applied: other replicas may apply a split earlier and write to its parts."""
        self._read_number = rng.getrandbits(48)  # so that an answer to an earlier life of this peer fits no new read

    @property
    def region(self) -> metapb_pb2.Region:
        """The region as applied."""
        return self.storage.region

    @property
    def is_leader(self) -> bool:
        """Whether the node leads."""
        return self.node.role is StateRole.LEADER

    def count_written(self, outcome: Applied) -> None:
        """Keep the statistics of what an applied entry wrote."""
        self.flow.written_bytes += outcome.written_bytes
        self.flow.written_keys += outcome.written_keys
        self.approximate_size += outcome.written_bytes
        self.unmeasured_bytes += outcome.written_bytes
        self.approximate_keys += outcome.written_keys

    def meta(self) -> metapb_pb2.Peer:
        """This peer as the region lists it."""
        return find_peer(self.region, peer_id=self.peer_id) or self.peer_cache[self.peer_id]

    def leader(self) -> metapb_pb2.Peer | None:
        """The leader as far as known."""
        return find_peer(self.region, peer_id=self.node.leader_id) if self.node.leader_id else None

    def not_leader(self) -> NotLeader:
        """The error that points at the leader."""
        leader = self.leader()
        return NotLeader(self.region.id, None if leader is not None and leader.id == self.peer_id else leader)

    def has_caught_up(self, peer_id: int) -> bool:
        """Whether a follower holds the log from where this peer's log begins, so that it needs no snapshot."""
        progress = self.node.progress(peer_id)
        return progress is not None and progress.match + 1 >= self.storage.first_index()

    def can_read_locally(self) -> bool:
        """Whether nobody can have seen anything newer than what this leader has applied.

        A follower may be ahead of it: followers that are quick make an entry committed, and apply it, before the leader's
        own disk is done with it. So a lease alone is not enough where followers are read, too.
        """
        return self.storage.apply_state.applied_index >= self.node.committed and self._leads_alone()

    def _leads_alone(self) -> bool:
        """Whether no other peer can have committed anything that this leader has not."""
        if self._fail.armed and self._fail.hit("lease_lost") is not None:
            return False
        return self.is_complete() and self.node.in_lease()

    def is_complete(self) -> bool:
        """Whether a leader has applied every write that was ever answered in its range, if nobody leads after it yet."""
        storage = self.storage
        return (
            self.is_leader
            and storage.merge is None
            and storage.applied_term == self.node.term
            and storage.apply_state.applied_index >= self._lease_from
        )

    def safe_ts(self) -> int:
        """Up to which timestamp this replica can be read without asking anybody; 0 for not at all."""
        return self.read_progress.safe_ts(self.storage.apply_state.applied_index)

    def write(
        self,
        modifies: list[Modify],
        ranges: list[tuple[str, bytes, bytes]],
        *,
        disk_full_opt: int = 0,
        kind: WriteKind = ORDINARY,
    ) -> asyncio.Future[Applied]:
        """Queue a write for the next turn.

        Raises NotLeader, ServerIsBusy, DiskFull, RaftEntryTooLarge, FlashbackInProgress, FlashbackNotPrepared.
        """
        if not self.is_leader:
            raise self.not_leader()
        if self.storage.merge is not None:
            raise ProposalInMergingMode(self.region.id)
        if kind is not ORDINARY or self.region.is_in_flashback:
            flashback.check_write(self.region, kind)
        if self._disk.is_tight:
            self._disk.check_write(self.region, disk_full_opt)
        if len(self.pending_writes) >= self._config.max_pending_writes:
            raise ServerIsBusy(f"region {self.region.id} has {len(self.pending_writes)} writes waiting")
        size = sum([len(key) + len(value or b"") + WRITE_OVERHEAD for _, key, value in modifies])
        size += sum([len(start) + len(end) + WRITE_OVERHEAD for _, start, end in ranges])
        if size > self._config.raft_entry_max_size:
            raise RaftEntryTooLarge(self.region.id, size)
        self._budget.check(size)
        future: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
        self._budget.hold(size, future)
        version = self.region.region_epoch.version
        self.pending_writes.append(PendingWrite(modifies, ranges, size, version, future, kind))
        return future

    def propose_pending(self) -> None:
        """Propose the writes of this turn, as few entries as fit."""
        version = self.region.region_epoch.version
        pending = [one for one in self.pending_writes if one.version == version]
        for stale in self.pending_writes:
            if stale.version != version:
                fail([stale.future], EpochNotMatch(f"region {self.region.id} was split meanwhile", (self.region,)))
        self.pending_writes = []
        at, shared_bytes = 0, min(MERGED_WRITE_MAX_BYTES, self._config.raft_entry_max_size)
        while at < len(pending):
            size, end, kind = pending[at].size, at + 1, pending[at].kind
            while end < len(pending) and size + pending[end].size <= shared_bytes and pending[end].kind is kind:
                size += pending[end].size
                end += 1
            group = pending[at:end]
            at = end
            modifies = group[0].modifies if len(group) == 1 else [m for one in group for m in one.modifies]
            ranges = [r for one in group for r in one.ranges]
            futures = [one.future for one in group]
            try:
                data = commands.write_command(self.region, modifies, ranges, kind)
                index = self.node.propose(data)
            except RaftError as error:
                fail(futures, self.to_region_error(error))
                continue
            local = (self.region.region_epoch, modifies, ranges, kind)
            self._add_proposal(Proposal(index, self.node.term, futures, local))

    def propose_admin(self, data: bytes) -> asyncio.Future[Applied]:
        """Append an admin command. Raises region errors."""
        try:
            index = self.node.propose(data)
        except RaftError as error:
            raise self.to_region_error(error) from error
        self._lease_from = index
        return self._await(index)

    def propose_conf_change(self, change: ConfChange, data: bytes) -> asyncio.Future[Applied]:
        """Append a membership change. Raises region errors, ConfChangeRefused."""
        try:
            index = self.node.propose_conf_change(change, data)
        except ConfChangeRefused:
            raise
        except RaftError as error:
            raise self.to_region_error(error) from error
        return self._await(index)

    def _await(self, index: int) -> asyncio.Future[Applied]:
        future: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
        self._add_proposal(Proposal(index, self.node.term, [future], None))
        return future

    def _add_proposal(self, proposal: Proposal) -> None:
        """Wait for an entry. Whoever waits at its index or behind does so since an earlier term; their entries left this log."""
        while self.proposals and self.proposals[-1].index >= proposal.index:
            fail(self.proposals.pop().futures, UndeterminedResult(self.region.id))
        self.proposals.append(proposal)

    def fail_proposals(self) -> None:
        """A snapshot or the peer's end hides what becomes of the entries: they may be applied elsewhere, or lost."""
        for proposal in self.proposals:
            fail(proposal.futures, UndeterminedResult(self.region.id))
        self.proposals.clear()

    def to_region_error(self, error: RaftError) -> DbError:
        """What the client is told about a refusal of the core."""
        if isinstance(error, NotLeaderError):
            return self.not_leader()
        if isinstance(error, TransferInProgress):
            # Who is handing leadership over is as good as no leader: the client finds the next one in milliseconds.
            return self.not_leader()
        if isinstance(error, ProposalDropped):
            return ServerIsBusy(error.message)
        if isinstance(error, EntryTooLarge):
            return RaftEntryTooLarge(self.region.id, error.size_bytes)
        return StaleCommand(self.region.id)

    def take_proposal(self, index: int, term: int) -> Proposal | None:
        """The proposal answered by the entry (index, term); those it overtakes are lost and told so."""
        proposals = self.proposals
        while proposals and proposals[0].index <= index:
            proposal = proposals.popleft()
            if proposal.index == index and proposal.term == term:
                return proposal
            fail(proposal.futures, StaleCommand(self.region.id))
        return None

    def read_barrier(self, question: ReadQuestion | None = None) -> asyncio.Future[None]:
        """Done when this peer's state is as new as anything read before. Raises region errors.

        A leader in its lease only waits for its own apply; anybody else asks a quorum. `question` tells the leader what a replica
        is going to read; the future fails with KeyIsLocked when a lock in the leader's memory stands in the way.
        """
        if not self._leads_alone():
            return self.read_index(None if self.is_leader else question)
        self._check_reads()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.node.committed <= self._readable_index():  # applied since the caller looked; no apply may follow
            future.set_result(None)
        else:
            self.read_waits.append(_ReadWait(self.node.committed, future))
        return future

    def read_index(self, question: ReadQuestion | None = None) -> asyncio.Future[None]:
        """Ask for a confirmed read; done when this peer's state is new enough. Raises region errors."""
        self._check_reads()
        self._read_number += 1
        context = self.peer_id.to_bytes(8, "big") + self._read_number.to_bytes(8, "big")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self.node.read_index(context if question is None else question.to_context(context))
        except NotLeaderError as error:
            raise self.not_leader() from error
        except RaftError as error:
            raise ReadIndexNotReady(self.region.id, error.message) from error
        self.reads[context] = future
        future.add_done_callback(lambda _: self.reads.pop(context, None))
        return future

    def _check_reads(self) -> None:
        waiting = len(self.reads) + len(self.read_waits)
        if waiting >= self._config.max_pending_reads:
            raise ServerIsBusy(f"region {self.region.id} has {waiting} reads waiting")

    def _readable_index(self) -> int:
        """Up to where this peer's data can be read: nowhere while a snapshot replaces it."""
        return -1 if self.snapshot is not None else self.storage.apply_state.applied_index

    def on_read_state(self, index: int, context: bytes) -> None:
        """The leader confirmed a read at `index`."""
        future = self.reads.pop(context[:ID_SIZE], None)
        if future is None or future.done():
            return
        in_the_way = lock_of(context)
        if in_the_way is not None:
            future.set_exception(KeyIsLocked(*in_the_way))
        elif index <= self._readable_index():
            future.set_result(None)
        else:
            self.read_waits.append(_ReadWait(index, future))

    def on_written(self, done: Iterable[tuple[asyncio.Future[Applied], Applied]]) -> None:
        """What this turn applied is in the database: answer those who proposed it, and the reads that it lets through."""
        self.unwritten = False
        for future, outcome in done:
            if future.done():
                continue
            if outcome.error is not None:
                future.set_exception(outcome.error)
            else:
                future.set_result(outcome)
        self.on_applied()

    def on_applied(self) -> None:
        """The apply index moved: answer the reads it reaches."""
        applied = self._readable_index()
        left = []
        for wait in self.read_waits:
            if wait.future.done():
                continue
            if wait.index <= applied:
                wait.future.set_result(None)
            else:
                left.append(wait)
        self.read_waits = left

    def on_role_change(self) -> None:
        """Reads asked under another leader are lost; proposals wait for what the log becomes."""
        if self.is_leader:
            self.size_known = False  # a replica made from a snapshot has counted only what came later
        else:
            pending, self.pending_writes = self.pending_writes, []
            error = self.not_leader()
            for one in pending:
                fail([one.future], error)
        reads, self.reads = self.reads, {}
        for future in reads.values():
            if not future.done():
                future.set_exception(ReadIndexNotReady(self.region.id, "the leader changed"))

    def fail_all(self, error: DbError) -> None:
        """Nobody waits on a peer that is gone."""
        for write in self.pending_writes:
            fail([write.future], error)
        self.fail_proposals()
        for future in [*self.reads.values(), *(wait.future for wait in self.read_waits)]:
            if not future.done():
                future.set_exception(error)
        self.pending_writes, self.reads, self.read_waits = [], {}, []


def _raft_config(peer_id: int, storage: PeerStorage, config: RaftstoreConfig, *, restarted: bool) -> RaftConfig:
    return RaftConfig(
        id=peer_id,
        election_ticks=config.raft_election_timeout_ticks,
        heartbeat_ticks=config.raft_heartbeat_ticks,
        max_entry_bytes=config.raft_entry_max_size,
        max_bytes_per_msg=config.raft_max_size_per_msg,
        max_inflight_msgs=config.raft_max_inflight_msgs,
        max_pending_reads=config.max_pending_reads,
        applied=storage.apply_state.applied_index,
        restarted=restarted,
        # A lease counted in ticks is believed only together with the clock, which the store loop looks at.
        read_only_lease=False,
    )


def ignore_outcome(future: asyncio.Future[Applied]) -> None:
    """Nobody waits: what became of the command shows in the region. Its error must be looked at all the same."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())


def fail(futures: list[asyncio.Future[Applied]], error: DbError) -> None:
    """Give every waiter the error."""
    for future in futures:
        if not future.done():
            future.set_exception(error)
