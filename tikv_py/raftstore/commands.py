"""Raft commands: what log entries hold, built by the proposer and read again by every replica's apply."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protos.kvproto import eraftpb_pb2, metapb_pb2
from protos.kvproto import raft_cmdpb_pb2 as cmdpb
from tikv_py.mvcc.txn import Modify

_FLASHBACK, _COLLECTS = 1 << 3, 1 << 32  # bits of a header's flags; the second one is private to this implementation


@dataclass(frozen=True, slots=True)
class WriteKind:
    """What a write is beyond its changes; travels in the entry's header."""

    is_flashback: bool = False
    """Belongs to the flashback that has closed the region to all others."""
    gc_safe_point: int = 0
    """The timestamp below which it removes versions that a reader could have asked for; 0 for a write that is no GC."""


ORDINARY = WriteKind()
FLASHBACK = WriteKind(is_flashback=True)


def kind_of(header: cmdpb.RaftRequestHeader) -> WriteKind:
    """The kind of the writes under this header."""
    if not header.flags:
        return ORDINARY
    safe_point = int.from_bytes(header.flag_data, "big") if header.flags & _COLLECTS else 0
    return WriteKind(bool(header.flags & _FLASHBACK), safe_point)


def delete_range_modify(cf: str, start: bytes, end: bytes) -> tuple[str, bytes, bytes]:
    """A range deletion, in the form `write_command` takes."""
    return cf, start, end


def write_command(
    region: metapb_pb2.Region,
    modifies: Iterable[Modify],
    ranges: Sequence[tuple[str, bytes, bytes]] = (),
    kind: WriteKind = ORDINARY,
) -> bytes:
    """The entry data of ordinary writes. Keys travel without their `z`."""
    command = cmdpb.RaftCmdRequest()
    header = command.header
    header.region_id = region.id
    header.region_epoch.CopyFrom(region.region_epoch)
    if kind is not ORDINARY:
        header.flags = _FLASHBACK if kind.is_flashback else 0
        if kind.gc_safe_point:
            header.flags |= _COLLECTS
            header.flag_data = kind.gc_safe_point.to_bytes(8, "big")
    # `add` and assignments: building each request by keyword arguments costs four times as much.
    add = command.requests.add
    for cf, start, end in ranges:
        request = add()
        request.cmd_type = cmdpb.DeleteRange
        bounds = request.delete_range
        bounds.cf, bounds.start_key, bounds.end_key = cf, start[1:], end[1:]
    for cf, key, value in modifies:
        request = add()
        if value is None:
            request.cmd_type = cmdpb.Delete
            delete = request.delete
            delete.cf, delete.key = cf, key[1:]
        else:
            request.cmd_type = cmdpb.Put
            put = request.put
            put.cf, put.key, put.value = cf, key[1:], value
    return command.SerializeToString()


def admin_command(region: metapb_pb2.Region, admin: cmdpb.AdminRequest) -> cmdpb.RaftCmdRequest:
    """An admin command of a region at its present epoch."""
    command = cmdpb.RaftCmdRequest(admin_request=admin)
    command.header.region_id = region.id
    command.header.region_epoch.CopyFrom(region.region_epoch)
    return command


def compact_log(index: int, term: int) -> cmdpb.AdminRequest:
    """Cut the log up to and including `index`."""
    request = cmdpb.CompactLogRequest(compact_index=index, compact_term=term)
    return cmdpb.AdminRequest(cmd_type=cmdpb.CompactLog, compact_log=request)


def batch_split(splits: Iterable[tuple[bytes, int, Sequence[int]]]) -> cmdpb.AdminRequest:
    """Split at (key, new region id, new peer ids) each; the right-most part keeps the region's id."""
    requests = [
        cmdpb.SplitRequest(split_key=key, new_region_id=region_id, new_peer_ids=peer_ids)
        for key, region_id, peer_ids in splits
    ]
    return cmdpb.AdminRequest(
        cmd_type=cmdpb.BatchSplit, splits=cmdpb.BatchSplitRequest(requests=requests, right_derive=True)
    )


def change_peers(changes: Iterable[tuple[int, metapb_pb2.Peer]]) -> cmdpb.AdminRequest:
    """Membership changes as (eraftpb.ConfChangeType, peer); none of them leaves a joint state."""
    requests = [cmdpb.ChangePeerRequest(change_type=kind, peer=peer) for kind, peer in changes]  # type: ignore[arg-type]
    return cmdpb.AdminRequest(cmd_type=cmdpb.ChangePeerV2, change_peer_v2=cmdpb.ChangePeerV2Request(changes=requests))


def prepare_merge(min_index: int, target: metapb_pb2.Region) -> cmdpb.AdminRequest:
    """Close the region for a merge into `target`; every replica holds the log up to `min_index`."""
    request = cmdpb.PrepareMergeRequest(min_index=min_index, target=target)
    return cmdpb.AdminRequest(cmd_type=cmdpb.PrepareMerge, prepare_merge=request)


def commit_merge(source: metapb_pb2.Region, commit: int, entries: Iterable[eraftpb_pb2.Entry]) -> cmdpb.AdminRequest:
    """Take over the range of `source`, whose PrepareMerge is at index `commit`; `entries` end with it."""
    request = cmdpb.CommitMergeRequest(source=source, commit=commit, entries=entries)
    return cmdpb.AdminRequest(cmd_type=cmdpb.CommitMerge, commit_merge=request)


def rollback_merge(commit: int) -> cmdpb.AdminRequest:
    """Open the region again that the PrepareMerge at index `commit` closed."""
    request = cmdpb.RollbackMergeRequest(commit=commit)
    return cmdpb.AdminRequest(cmd_type=cmdpb.RollbackMerge, rollback_merge=request)


def prepare_flashback(start_ts: int) -> cmdpb.AdminRequest:
    """Close the region to everybody but the flashback of `start_ts`."""
    request = cmdpb.PrepareFlashbackRequest(start_ts=start_ts)
    return cmdpb.AdminRequest(cmd_type=cmdpb.PrepareFlashback, prepare_flashback=request)


def finish_flashback() -> cmdpb.AdminRequest:
    """Open the region again."""
    return cmdpb.AdminRequest(cmd_type=cmdpb.FinishFlashback, finish_flashback=cmdpb.FinishFlashbackRequest())
