"""What one peer keeps: its raft log and states, read for the Raft core and written in batches for the store loop.

Two databases. The raft database holds log entries and the raft state; it is synced before anything that was promised leaves the
store. The kv database holds data, apply state and region state; apply writes are not synced, because the apply state is in the
same batch as the data: after a loss of power the log is applied again from there.

Invariants: applied <= committed <= last; the log from truncated + 1 to last is contiguous; entries up to the synced last index
survive a loss of power; the log is truncated only after the kv database is synced up to the truncated index.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from core_py.codec import eraft
from core_py.errors import invariant
from core_py.raft.errors import LogCompacted, LogUnavailable, SnapshotTemporarilyUnavailable
from core_py.raft.messages import ConfState, Entry, HardState, Snapshot
from core_py.raft.storage import limit_bytes
from protos.kvproto import eraftpb_pb2, metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.engine.port import CF_DEFAULT, CF_RAFT, Engine, WriteBatch
from tikv_py.raftstore import damage, keys
from tikv_py.raftstore.entry_cache import CacheBudget, EntryCache

RAFT_INIT_LOG_TERM = 5
RAFT_INIT_LOG_INDEX = 5


@dataclass(slots=True)
class ApplyState:
    """How far the log is applied, and where it begins."""

    applied_index: int = 0
    truncated_index: int = 0
    truncated_term: int = 0

    def to_bytes(self) -> bytes:
        """RaftApplyState."""
        state = serverpb.RaftApplyState(applied_index=self.applied_index, commit_index=self.applied_index)
        state.truncated_state.index, state.truncated_state.term = self.truncated_index, self.truncated_term
        return state.SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes, region_id: int = 0) -> ApplyState:
        """The inverse of `to_bytes`. Raises DataCorruption, which names the region."""
        state = damage.parsed(serverpb.RaftApplyState, data, region_id, "apply state")
        return cls(state.applied_index, state.truncated_state.index, state.truncated_state.term)


def initial_apply_state() -> ApplyState:
    """Of a region made by bootstrap or split: as if the log up to index 5 had been applied and cut."""
    return ApplyState(RAFT_INIT_LOG_INDEX, RAFT_INIT_LOG_INDEX, RAFT_INIT_LOG_TERM)


def raft_state_bytes(hard_state: HardState, last_index: int) -> bytes:
    """RaftLocalState."""
    hard = eraftpb_pb2.HardState(term=hard_state.term, vote=hard_state.vote, commit=hard_state.commit)
    return serverpb.RaftLocalState(hard_state=hard, last_index=last_index).SerializeToString()


def region_state_bytes(
    region: metapb_pb2.Region,
    state: serverpb.PeerState,
    *,
    merge: serverpb.MergeState | None = None,
    merged_records: tuple[serverpb.MergedRecord, ...] = (),
) -> bytes:
    """RegionLocalState. `merge` is the merge under way; on a tombstone, the region that this one became a part of."""
    return serverpb.RegionLocalState(
        state=state, region=region, merge_state=merge, merged_records=merged_records
    ).SerializeToString()


def load_raft_state(raft_db: Engine, region_id: int) -> tuple[HardState, int] | None:
    """(hard state, last index) of a region, or None. Raises DataCorruption."""
    data = raft_db.get(CF_DEFAULT, keys.raft_state_key(region_id))
    if data is None:
        return None
    state = damage.parsed(serverpb.RaftLocalState, data, region_id, "raft state")
    hard = state.hard_state
    return HardState(hard.term, hard.vote, hard.commit), state.last_index


def _with_initial_log(found: tuple[HardState, int] | None, apply_state: ApplyState) -> tuple[HardState, int]:
    """The raft state of a region born by split or bootstrap, whose log begins where its apply state says.

    The birth writes the kv database only. A vote given before the peer knew its region is kept, or it could vote twice
    in a term.
    """
    if found is not None and found[1] > 0:
        return found
    term, vote = apply_state.truncated_term, 0
    if found is not None and found[0].term >= term:
        term, vote = found[0].term, found[0].vote
    return HardState(term, vote, apply_state.truncated_index), apply_state.truncated_index


def clear_raft_data(batch: WriteBatch, region_id: int) -> None:
    """Remove log, raft state and snapshot marker of a region."""
    batch.delete_range(CF_DEFAULT, keys.log_key(region_id, 0), keys.raft_state_key(region_id))
    batch.delete(CF_DEFAULT, keys.raft_state_key(region_id))
    batch.delete(CF_DEFAULT, keys.pending_snapshot_key(region_id))


SnapshotMaker = Callable[[int], Snapshot]


@dataclass(slots=True)
class PeerStorage:
    """`core_py.raft.storage.RaftStorage` of one peer."""

    raft_db: Engine
    region: metapb_pb2.Region
    apply_state: ApplyState
    hard_state: HardState
    last: int
    last_term: int
    applied_term: int
    make_snapshot: SnapshotMaker | None = None
    """Makes a snapshot of the applied state for a peer; set by the store."""
    merge: serverpb.MergeState | None = None
    """The merge that has closed this region, from PrepareMerge to RollbackMerge or the end of the peer."""
    merged_records: tuple[serverpb.MergedRecord, ...] = ()
    """The regions that have become parts of this one, oldest first."""
    cache: EntryCache = field(default_factory=EntryCache)
    log_bytes: int = 0
    """About what the entries from first to last hold: counted when they are appended, in proportion when some are removed.

    What the log held when the peer was loaded counts as nothing.
    """

    @classmethod
    def load(
        cls, raft_db: Engine, kv_db: Engine, region: metapb_pb2.Region, budget: CacheBudget | None = None
    ) -> PeerStorage:
        """Read a peer's states; a peer without any is uninitialized and waits for a snapshot. Raises DataCorruption."""
        data = kv_db.get(CF_RAFT, keys.apply_state_key(region.id))
        apply_state = ApplyState()
        if data is not None:
            apply_state = ApplyState.from_bytes(data, region.id)
        raft_state = load_raft_state(raft_db, region.id)
        if data is not None:
            raft_state = _with_initial_log(raft_state, apply_state)
        hard_state, last = raft_state or (HardState(), 0)
        if last < apply_state.applied_index:
            raise damage.damaged(
                region.id,
                f"applied index {apply_state.applied_index} is past the log's end {last}: synced log is lost",
            )
        if hard_state.commit > last:
            raise damage.damaged(region.id, f"index {hard_state.commit} is committed, past the log's end {last}")
        if hard_state.commit < apply_state.applied_index:
            hard_state = HardState(hard_state.term, hard_state.vote, apply_state.applied_index)
        storage = cls(raft_db, region, apply_state, hard_state, last, 0, 0, cache=EntryCache(budget))
        damage.check_log(
            raft_db, region.id, storage.first_index(), last, (apply_state.applied_index, hard_state.commit)
        )
        storage.last_term = storage.term(last)
        storage.applied_term = storage.term(apply_state.applied_index)
        return storage

    @property
    def is_initialized(self) -> bool:
        """Whether the peer knows its region."""
        return len(self.region.peers) > 0

    def initial_state(self) -> tuple[HardState, ConfState]:
        """For the core, at start."""
        return self.hard_state, eraft.conf_state_of_peers(self.region.peers)

    def first_index(self) -> int:
        """The first index the log holds."""
        return self.apply_state.truncated_index + 1

    def last_index(self) -> int:
        """The last index the log holds."""
        return self.last

    def term(self, index: int) -> int:
        """The term at an index. Raises LogCompacted, LogUnavailable."""
        if index == self.apply_state.truncated_index:
            return self.apply_state.truncated_term
        if index == self.last and self.last_term:
            return self.last_term
        return self.entries(index, index + 1, None)[0].term

    def entries(self, low: int, high: int, max_bytes: int | None) -> list[Entry]:
        """Entries of [low, high), from memory or the raft database."""
        if low <= self.apply_state.truncated_index:
            raise LogCompacted(f"entry {low} of region {self.region.id} is compacted")
        if high > self.last + 1:
            raise LogUnavailable(f"entries up to {high} of region {self.region.id} asked, the last one is {self.last}")
        cached = self.cache.get(low, high)
        if cached is not None:
            return limit_bytes(cached, max_bytes)
        region_id = self.region.id
        out: list[Entry] = []
        size = 0
        while low < high and (max_bytes is None or not out or size < max_bytes):
            step = min(high, low + 256)
            pairs = self.raft_db.scan(CF_DEFAULT, keys.log_key(region_id, low), keys.log_key(region_id, step))
            invariant(
                len(pairs) == step - low,
                f"region {region_id}: of entries {low} to {step - 1} only {len(pairs)} are in the raft log; {damage.ADVICE}",
            )
            batch = [
                eraft.entry_from_pb(damage.parsed(eraftpb_pb2.Entry, data, region_id, "raft log")) for _, data in pairs
            ]
            out += batch
            size += sum([len(entry.data) for entry in batch])
            low = step
        return limit_bytes(out, max_bytes)

    def snapshot(self, request_index: int, to: int) -> Snapshot:
        """A snapshot of the applied state. Raises SnapshotTemporarilyUnavailable."""
        if self.make_snapshot is None or self.apply_state.applied_index < request_index:
            raise SnapshotTemporarilyUnavailable(f"region {self.region.id} has not applied index {request_index} yet")
        return self.make_snapshot(to)

    def append(self, batch: WriteBatch, entries: tuple[Entry, ...]) -> None:
        """Add entries to a raft database batch, cutting what they replace."""
        region_id = self.region.id
        if entries[0].index <= self.last:
            self._scale_log_bytes(entries[0].index - self.first_index())
        for entry in entries:
            batch.put(CF_DEFAULT, keys.log_key(region_id, entry.index), eraft.entry_to_pb(entry).SerializeToString())
            self.log_bytes += len(entry.data)
        last = entries[-1].index
        for index in range(last + 1, self.last + 1):
            batch.delete(CF_DEFAULT, keys.log_key(region_id, index))
        self.last, self.last_term = last, entries[-1].term
        self.cache.append(entries)

    def compact(self, index: int, term: int) -> None:
        """The log begins behind `index` from now on; the entries are removed by the store."""
        self._scale_log_bytes(self.last - index)
        self.apply_state.truncated_index, self.apply_state.truncated_term = index, term

    def _scale_log_bytes(self, kept: int) -> None:
        self.log_bytes = self.log_bytes * max(kept, 0) // max(self.last - self.first_index() + 1, 1)

    def put_raft_state(self, batch: WriteBatch) -> None:
        """Add the raft state to a raft database batch."""
        batch.put(CF_DEFAULT, keys.raft_state_key(self.region.id), raft_state_bytes(self.hard_state, self.last))

    def put_apply_state(self, batch: WriteBatch) -> None:
        """Add the apply state to a kv database batch."""
        batch.put(CF_RAFT, keys.apply_state_key(self.region.id), self.apply_state.to_bytes())

    def put_region_state(self, batch: WriteBatch) -> None:
        """Add the region state to a kv database batch."""
        state = serverpb.Normal if self.merge is None else serverpb.Merging
        data = region_state_bytes(self.region, state, merge=self.merge, merged_records=self.merged_records)
        batch.put(CF_RAFT, keys.region_state_key(self.region.id), data)

    def reset_to_snapshot(self, batch: WriteBatch, index: int, term: int) -> None:
        """Forget the log in favour of a snapshot at (index, term): raft database part."""
        region_id = self.region.id
        batch.delete_range(CF_DEFAULT, keys.log_key(region_id, 0), keys.log_key(region_id, self.last + 1))
        self.cache.clear()
        self.log_bytes = 0
        self.apply_state = ApplyState(index, index, term)
        self.last, self.last_term, self.applied_term = index, term, term
        if self.hard_state.commit < index:
            self.hard_state = HardState(max(self.hard_state.term, term), self.hard_state.vote, index)
        self.put_raft_state(batch)

    def clear_kv(self, kv_batch: WriteBatch, *, keep_data: bool = False) -> None:
        """Remove what a destroyed peer has in the kv database; its tombstone takes the region state's place."""
        kv_batch.delete(CF_RAFT, keys.apply_state_key(self.region.id))
        if self.is_initialized and not keep_data:
            start, end = keys.data_range(self.region.start_key, self.region.end_key)
            for cf in ("default", "lock", "write"):
                kv_batch.delete_range(cf, start, end)
