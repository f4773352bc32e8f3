"""Applying committed entries to the kv database: a batch of changes per turn, region changes reported to the store.

Deterministic: every replica that applies the same log does the same. The epoch is checked again here, because a split or
membership change may have been applied between proposing and applying; a command of an older epoch has no effect and its
proposer is told. The apply state goes into the same batch as the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from core_py.codec import eraft
from core_py.errors import DbError
from core_py.failpoints import UNARMED, FailPoints
from core_py.raft.errors import ConfChangeRefused
from core_py.raft.messages import ConfChange, Entry, EntryType
from core_py.raft.node import RawNode
from core_py.region_errors import ProposalInMergingMode
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_cmdpb_pb2 as cmdpb
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.engine.port import WriteBatch
from tikv_py.mvcc.txn import Modify
from tikv_py.raftstore import commands, flashback, merge_rules, region
from tikv_py.raftstore.commands import ORDINARY, WriteKind
from tikv_py.raftstore.peer_storage import PeerStorage
from tikv_py.resolved_ts.resolver import Resolver


@dataclass(slots=True)
class Applied:
    """What came of one entry: an error for the proposer, or the region change the store must act on."""

    error: DbError | None = None
    new_regions: list[metapb_pb2.Region] = field(default_factory=list)
    """After a split, all parts from left to right; the last one is the region itself."""
    region_changed: bool = False
    compact_to: tuple[int, int] | None = None
    commit_merge: cmdpb.CommitMergeRequest | None = None
    """The region takes its source's range over; the store does it, because it concerns two peers."""
    compute_hash: bool = False
    """A consistency check begins at this entry."""
    verify_hash: cmdpb.VerifyHashRequest | None = None
    written_bytes: int = 0
    written_keys: int = 0
    gc_safe_point: int = 0
    """Versions that readers below this need may have gone with the entry."""


LocalWrites = tuple[metapb_pb2.RegionEpoch, list[Modify], list[tuple[str, bytes, bytes]], WriteKind]


class Applier:
    """Applies the entries of one peer into a shared batch. `locks` is told of every change, while somebody wants to know."""

    def __init__(self, storage: PeerStorage, node: Callable[[], RawNode], fail: FailPoints = UNARMED) -> None:
        self._storage = storage
        self._node = node
        self.locks: Resolver | None = None
        self._fail = fail

    def apply(self, batch: WriteBatch, entry: Entry, local: LocalWrites | None) -> Applied:
        """Apply one committed entry; `local` is its parsed content when this store proposed it."""
        if self._fail.armed:
            self._fail.hit("apply_before_entry")
        if entry.entry_type is not EntryType.NORMAL:
            return self._conf_change(batch, entry)
        if not entry.data:
            return Applied()
        if self._storage.merge is not None and local is not None:
            return self._closed()
        if local is not None:
            epoch, modifies, ranges, kind = local
            return self._write(batch, epoch, modifies, ranges, kind)
        command = cmdpb.RaftCmdRequest.FromString(entry.data)
        if command.HasField("admin_request"):
            return self._admin(batch, command, entry.index)
        if self._storage.merge is not None:
            return self._closed()
        parsed, ranges = parse_writes(command)
        return self._write(batch, command.header.region_epoch, parsed, ranges, commands.kind_of(command.header))

    def _write(
        self,
        batch: WriteBatch,
        epoch: metapb_pb2.RegionEpoch,
        modifies: list[Modify],
        ranges: list[tuple[str, bytes, bytes]],
        kind: WriteKind = ORDINARY,
    ) -> Applied:
        try:
            region.check_epoch(self._storage.region, epoch, conf_ver=False)
            if kind is not ORDINARY or self._storage.region.is_in_flashback:
                flashback.check_write(self._storage.region, kind)
        except DbError as error:
            return Applied(error)
        for cf, start, end in ranges:
            batch.delete_range(cf, start, end)
        size = 0
        put, delete = batch.put, batch.delete
        for cf, key, value in modifies:
            if value is None:
                delete(cf, key)
                size += len(key)
            else:
                put(cf, key, value)
                size += len(key) + len(value)
        if self.locks is not None:
            self.locks.apply(modifies, ranges)
        return Applied(written_bytes=size, written_keys=len(modifies), gc_safe_point=kind.gc_safe_point)

    def _closed(self) -> Applied:
        """What follows PrepareMerge in the log is void, whatever its epoch: the target does not get it."""
        return Applied(ProposalInMergingMode(self._storage.region.id))

    def _admin(self, batch: WriteBatch, command: cmdpb.RaftCmdRequest, index: int) -> Applied:
        admin = command.admin_request
        kind = admin.cmd_type
        storage = self._storage
        try:
            if storage.merge is not None and kind != cmdpb.RollbackMerge:
                return self._closed()
            if kind == cmdpb.ComputeHash:
                return Applied(compute_hash=True)
            if kind == cmdpb.VerifyHash:
                return Applied(verify_hash=admin.verify_hash)
            if kind == cmdpb.CompactLog:
                return self._compact(admin.compact_log)
            if kind == cmdpb.RollbackMerge:
                return self._rollback_merge(batch, admin.rollback_merge)
            region.check_epoch(storage.region, command.header.region_epoch, conf_ver=True)
            if kind in (cmdpb.PrepareFlashback, cmdpb.FinishFlashback):
                return self._flashback(batch, admin)
            if storage.region.is_in_flashback:
                raise flashback.in_progress(storage.region)
            if kind == cmdpb.BatchSplit:
                return self._split(batch, admin.splits)
            if kind == cmdpb.PrepareMerge:
                return self._prepare_merge(batch, admin.prepare_merge, index)
            if kind == cmdpb.CommitMerge:
                return Applied(commit_merge=admin.commit_merge, region_changed=True)
        except DbError as error:
            return Applied(error)
        return Applied(region.AdminRefused(f"admin command {kind} is not supported by this store"))

    def _flashback(self, batch: WriteBatch, admin: cmdpb.AdminRequest) -> Applied:
        storage = self._storage
        if admin.cmd_type == cmdpb.PrepareFlashback:
            storage.region = flashback.prepared(storage.region, admin.prepare_flashback.start_ts)
        else:
            storage.region = flashback.finished(storage.region)
        storage.put_region_state(batch)
        return Applied(region_changed=True)

    def _split(self, batch: WriteBatch, request: cmdpb.BatchSplitRequest) -> Applied:
        storage = self._storage
        if self._fail.armed:
            self._fail.hit("apply_split")
        parts = region.split(storage.region, request)
        storage.region = parts[-1]
        storage.put_region_state(batch)
        return Applied(new_regions=parts, region_changed=True)

    def _prepare_merge(self, batch: WriteBatch, request: cmdpb.PrepareMergeRequest, index: int) -> Applied:
        storage = self._storage
        if self._fail.armed:
            self._fail.hit("apply_prepare_merge")
        merge_rules.check_neighbours(storage.region, request.target)
        storage.region = merge_rules.closed(storage.region)
        storage.merge = serverpb.MergeState(min_index=request.min_index, target=request.target, commit=index)
        storage.put_region_state(batch)
        return Applied(region_changed=True)

    def _rollback_merge(self, batch: WriteBatch, request: cmdpb.RollbackMergeRequest) -> Applied:
        storage = self._storage
        if self._fail.armed:
            self._fail.hit("apply_rollback_merge")
        if storage.merge is None or storage.merge.commit != request.commit:
            return Applied(region.AdminRefused(f"region {storage.region.id} has no merge of index {request.commit}"))
        storage.region = merge_rules.reopened(storage.region)
        storage.merge = None
        storage.put_region_state(batch)
        return Applied(region_changed=True)

    def _compact(self, request: cmdpb.CompactLogRequest) -> Applied:
        if self._fail.armed:
            self._fail.hit("apply_compact_log")
        state = self._storage.apply_state
        if request.compact_index <= state.truncated_index:
            return Applied()
        if request.compact_index > state.applied_index:
            return Applied(
                region.AdminRefused(
                    f"log of region {self._storage.region.id} is not applied up to {request.compact_index}"
                )
            )
        self._storage.compact(request.compact_index, request.compact_term)
        return Applied(compact_to=(request.compact_index, request.compact_term))

    def _conf_change(self, batch: WriteBatch, entry: Entry) -> Applied:
        storage, node = self._storage, self._node()
        if self._fail.armed:
            self._fail.hit("apply_conf_change")
        if not entry.data:
            node.apply_conf_change(ConfChange())
            return Applied()
        if storage.merge is not None:
            return self._closed()
        change, data = eraft.conf_change_from_bytes(entry.data)
        command = cmdpb.RaftCmdRequest.FromString(data)
        try:
            region.check_epoch(storage.region, command.header.region_epoch, conf_ver=True)
            changed = region.change_peers(storage.region, list(command.admin_request.change_peer_v2.changes))
            node.apply_conf_change(change)
        except (region.AdminRefused, ConfChangeRefused, DbError) as error:
            return Applied(error)
        storage.region = changed
        storage.put_region_state(batch)
        return Applied(region_changed=True)


def parse_writes(command: cmdpb.RaftCmdRequest) -> tuple[list[Modify], list[tuple[str, bytes, bytes]]]:
    """The writes of a command, with the keys as the engine holds them."""
    modifies: list[Modify] = []
    ranges: list[tuple[str, bytes, bytes]] = []
    for request in command.requests:
        if request.cmd_type == cmdpb.Put:
            put = request.put
            modifies.append(Modify(put.cf or "default", b"z" + put.key, put.value))
        elif request.cmd_type == cmdpb.Delete:
            delete = request.delete
            modifies.append(Modify(delete.cf or "default", b"z" + delete.key, None))
        elif request.cmd_type == cmdpb.DeleteRange:
            bounds = request.delete_range
            end = b"z" + bounds.end_key if bounds.end_key else b"{"
            ranges.append((bounds.cf or "default", b"z" + bounds.start_key, end))
    return modifies, ranges
