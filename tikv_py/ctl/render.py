"""Answers as text for people and as plain values for `--json`. Pure: messages in, text out; keys are in the escaped form."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from core_py.codec import eraft
from core_py.errors import CodecError
from protos.kvproto import debugpb_pb2 as debugpb
from protos.kvproto import eraftpb_pb2, metapb_pb2
from protos.kvproto import kvrpcpb_pb2 as kvpb
from protos.kvproto import raft_cmdpb_pb2 as cmdpb
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.debug.escape import escape
from tikv_py.mvcc.keys import user_key
from tikv_py.raftstore import keys

Plain = dict[str, Any]
TOMBSTONE = serverpb.Tombstone


def as_json(value: Any) -> str:
    """One line for machines."""
    return json.dumps(value)


def plain(message: Message) -> Plain:
    """A message as nested plain values: set fields only, bytes escaped, enum numbers by name."""
    return {field.name: _plain_field(field, value) for field, value in message.ListFields()}


def _plain_field(field: FieldDescriptor, value: Any) -> Any:
    convert = _converter(field)
    return convert(value) if isinstance(value, bytes | str | int | float | Message) else [convert(one) for one in value]


def _converter(field: FieldDescriptor) -> Callable[[Any], Any]:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return plain
    if field.type == FieldDescriptor.TYPE_BYTES:
        return escape
    if field.enum_type is not None:
        by_number = field.enum_type.values_by_number
        return lambda number: by_number[number].name if number in by_number else number
    return lambda value: value


def region(region_id: int, info: debugpb.RegionInfoResponse) -> Plain:
    """A region with its keys in the store and its states."""
    return {
        "region_id": region_id,
        "region_state_key": escape(keys.region_state_key(region_id)),
        "raft_state_key": escape(keys.raft_state_key(region_id)),
        "apply_state_key": escape(keys.apply_state_key(region_id)),
        **{field.name: plain(value) for field, value in info.ListFields()},
    }


def region_text(region_id: int, info: debugpb.RegionInfoResponse) -> str:
    """The same for people."""
    local = info.region_local_state
    shown = local.region
    lines = [
        f"region {region_id}: {serverpb.PeerState.Name(local.state)}",
        f'  range       ["{escape(shown.start_key)}", "{escape(shown.end_key)}")',
        f"  epoch       conf_ver {shown.region_epoch.conf_ver}, version {shown.region_epoch.version}",
    ]
    lines += [
        f"  peer        {peer.id} on store {peer.store_id}, {metapb_pb2.PeerRole.Name(peer.role)}"
        for peer in shown.peers
    ]
    if info.HasField("raft_local_state"):
        hard = info.raft_local_state.hard_state
        lines.append(
            f"  raft        term {hard.term}, vote {hard.vote}, commit {hard.commit}, last index {info.raft_local_state.last_index}"
        )
    if info.HasField("raft_apply_state"):
        cut = info.raft_apply_state.truncated_state
        lines.append(
            f"  apply       applied {info.raft_apply_state.applied_index}, log cut at index {cut.index}, term {cut.term}"
        )
    return "\n".join(lines)


def raft_entry(region_id: int, entry: eraftpb_pb2.Entry) -> Plain:
    """A log entry with the command in it."""
    return {
        "key": escape(keys.log_key(region_id, entry.index)),
        "region_id": region_id,
        "entry_type": eraftpb_pb2.EntryType.Name(entry.entry_type),
        "term": entry.term,
        "index": entry.index,
        "bytes": len(entry.data),
        "command": _command(entry),
    }


def _command(entry: eraftpb_pb2.Entry) -> Any:
    if not entry.data:
        return None
    try:
        data = entry.data
        if entry.entry_type != eraftpb_pb2.EntryNormal:
            data = eraft.conf_change_from_bytes(data)[1]
        return plain(cmdpb.RaftCmdRequest.FromString(data))
    except (DecodeError, CodecError, ValueError):
        return {"unreadable": escape(entry.data)}


def raft_entry_text(region_id: int, entry: eraftpb_pb2.Entry) -> str:
    """The same for people."""
    shown = raft_entry(region_id, entry)
    head = f"{shown['entry_type']} at index {entry.index}, term {entry.term}, {shown['bytes']} bytes"
    body = "empty: a leader began its term" if shown["command"] is None else json.dumps(shown["command"], indent=2)
    return f"key: {shown['key']}\nregion {region_id}: {head}\n{body}"


def filtered(info: kvpb.MvccInfo, cfs: Collection[str], start_ts: int | None, commit_ts: int | None) -> kvpb.MvccInfo:
    """What of a key is asked for: by family, and by the timestamps of its transactions."""
    out = kvpb.MvccInfo()
    if "lock" in cfs and info.HasField("lock") and commit_ts is None and start_ts in (None, info.lock.start_ts):
        out.lock.CopyFrom(info.lock)
    if "write" in cfs:
        out.writes.extend(
            write
            for write in info.writes
            if start_ts in (None, write.start_ts) and commit_ts in (None, write.commit_ts)
        )
    if "default" in cfs and commit_ts is None:
        out.values.extend(value for value in info.values if start_ts in (None, value.start_ts))
    return out


def mvcc_text(key: bytes, info: kvpb.MvccInfo) -> str:
    """A key with its versions for people."""
    lines = [f"key: {escape(key)}"]
    try:
        lines[0] += f"  (user key: {escape(user_key(key))})"
    except CodecError:
        lines[0] += "  (no transactional key)"
    lines += _mvcc_lines(info)
    return "\n".join(lines)


def _mvcc_lines(info: kvpb.MvccInfo) -> Iterator[str]:
    if info.HasField("lock"):
        lock = info.lock
        text = f"\tlock cf value: {kvpb.Op.Name(lock.type)}, start_ts: {lock.start_ts}, primary: {escape(lock.primary)}"
        text += f", ttl: {lock.ttl} ms"
        if lock.for_update_ts:
            text += f", for_update_ts: {lock.for_update_ts}"
        yield text + _short(lock.short_value)
    for write in info.writes:
        yield (
            f"\twrite cf value: {kvpb.Op.Name(write.type)}, start_ts: {write.start_ts}, commit_ts: {write.commit_ts}"
            + _short(write.short_value)
        )
    for value in info.values:
        yield f"\tdefault cf value: start_ts: {value.start_ts}, value: {escape(value.value)}"


def _short(value: bytes) -> str:
    return f", short_value: {escape(value)}" if value else ""


def mvcc(key: bytes, info: kvpb.MvccInfo) -> Plain:
    """The same as plain values."""
    return {"key": escape(key), **plain(info)}


def size_text(count: int) -> str:
    """Bytes for people, with the exact number."""
    scaled, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if scaled < 1024:
            break
        scaled, unit = scaled / 1024, larger
    return f"{count} B" if unit == "B" else f"{scaled:.1f} {unit} ({count} B)"
