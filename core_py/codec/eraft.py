"""Between the Raft core's values and eraftpb, at the edge of whoever runs a node."""

from __future__ import annotations

from collections.abc import Iterable

from core_py.raft.messages import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    Message,
    MsgType,
    Snapshot,
    SnapshotMeta,
)
from protos.kvproto import eraftpb_pb2 as pb
from protos.kvproto import metapb_pb2

_MSG_TYPES = {int(kind): kind for kind in MsgType}
_ENTRY_TYPES = {int(kind): kind for kind in EntryType}


def entry_to_pb(entry: Entry) -> pb.Entry:
    """A log entry for the wire or the log."""
    kind = int(entry.entry_type)
    return pb.Entry(entry_type=kind, term=entry.term, index=entry.index, data=entry.data, context=entry.context)  # type: ignore[arg-type]


def entry_from_pb(entry: pb.Entry) -> Entry:
    """The inverse of `entry_to_pb`."""
    return Entry(entry.term, entry.index, entry.data, _ENTRY_TYPES[entry.entry_type], entry.context)


def conf_state_to_pb(state: ConfState) -> pb.ConfState:
    """Membership for a snapshot's metadata."""
    return pb.ConfState(
        voters=state.voters,
        learners=state.learners,
        voters_outgoing=state.voters_outgoing,
        learners_next=state.learners_next,
        auto_leave=state.auto_leave,
    )


def conf_state_from_pb(state: pb.ConfState) -> ConfState:
    """The inverse of `conf_state_to_pb`."""
    return ConfState(
        tuple(state.voters),
        tuple(state.learners),
        tuple(state.voters_outgoing),
        tuple(state.learners_next),
        state.auto_leave,
    )


def conf_state_of_peers(peers: Iterable[metapb_pb2.Peer]) -> ConfState:
    """The membership a region's peer list stands for; joint while a peer is incoming or demoting."""
    by_role: dict[int, list[int]] = {0: [], 1: [], 2: [], 3: []}
    for peer in peers:
        by_role[peer.role].append(peer.id)
    voters, learners, incoming, demoting = (tuple(sorted(by_role[role])) for role in range(4))
    if not incoming and not demoting:
        return ConfState(voters, learners)
    return ConfState(
        tuple(sorted((*voters, *incoming))), learners, tuple(sorted((*voters, *demoting))), demoting, auto_leave=False
    )


def snapshot_to_pb(snapshot: Snapshot) -> pb.Snapshot:
    """A snapshot's description."""
    meta = snapshot.meta
    metadata = pb.SnapshotMetadata(conf_state=conf_state_to_pb(meta.conf_state), index=meta.index, term=meta.term)
    return pb.Snapshot(data=snapshot.data, metadata=metadata)


def snapshot_from_pb(snapshot: pb.Snapshot) -> Snapshot:
    """The inverse of `snapshot_to_pb`."""
    meta = snapshot.metadata
    return Snapshot(SnapshotMeta(meta.index, meta.term, conf_state_from_pb(meta.conf_state)), snapshot.data)


def message_to_pb(message: Message) -> pb.Message:
    """A raft message for the wire."""
    out = pb.Message(
        msg_type=int(message.msg_type),  # type: ignore[arg-type]
        to=message.to,
        term=message.term,
        log_term=message.log_term,
        index=message.index,
        commit=message.commit,
        reject=message.reject,
        reject_hint=message.reject_hint,
        request_snapshot=message.request_snapshot,
        priority=message.priority,
        context=message.context,
    )
    setattr(out, "from", message.from_)
    if message.entries:
        out.entries.extend([entry_to_pb(entry) for entry in message.entries])
    if message.snapshot is not None:
        out.snapshot.CopyFrom(snapshot_to_pb(message.snapshot))
    return out


def message_from_pb(message: pb.Message) -> Message | None:
    """The inverse of `message_to_pb`; None for a kind that nodes do not send each other."""
    kind = _MSG_TYPES.get(message.msg_type)
    if kind is None:
        return None
    return Message(
        kind,
        message.to,
        getattr(message, "from"),
        message.term,
        message.log_term,
        message.index,
        tuple([entry_from_pb(entry) for entry in message.entries]),
        message.commit,
        0,
        snapshot_from_pb(message.snapshot) if message.HasField("snapshot") else None,
        message.reject,
        message.reject_hint,
        message.request_snapshot,
        message.priority,
        message.context,
    )


def conf_change_to_bytes(change: ConfChange, command: bytes) -> bytes:
    """The data of a conf change entry; `command` is the admin command that carries the peers' stores."""
    return pb.ConfChangeV2(
        transition=int(change.transition),  # type: ignore[arg-type]
        changes=[pb.ConfChangeSingle(change_type=int(one.change_type), node_id=one.node_id) for one in change.changes],  # type: ignore[arg-type]
        context=command,
    ).SerializeToString()


def conf_change_from_bytes(data: bytes) -> tuple[ConfChange, bytes]:
    """(change, command) of a conf change entry; empty data is the core's own request to leave a joint state."""
    message = pb.ConfChangeV2.FromString(data)
    changes = tuple(ConfChangeSingle(ConfChangeType(one.change_type), one.node_id) for one in message.changes)
    return ConfChange(changes, b"", ConfChangeTransition(message.transition)), message.context
