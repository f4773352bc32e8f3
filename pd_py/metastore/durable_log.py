"""A member's Raft log on disk: the last snapshot, the entries behind it and the hard state, as records of one file.

    raft.log:  record | record | ...      (`journal.py`: length, checksum, payload; payload = metaraft.LogRecord)

Why one file with everything in memory: PD's metadata is small (regions are not part of it), so the log and the state fit into
memory and a snapshot is one message. Cutting the log means writing a new file (snapshot, the entries behind it, hard state) that
takes the old one's place in one rename; so there is no moment with half of both, and nothing forks.

Invariants: what `write` was given is durable when it returns (with `sync`); the order of records is the order of `Ready`s; a
damaged end, which only a loss of power before an acknowledgement can leave, is cut at start before anything is appended;
damage with valid records behind it is refused. Does not decide when to cut: `replica.py` does.
"""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import DecodeError

from core_py.codec import eraft
from core_py.errors import StorageError
from core_py.ports import Disk, Workers
from core_py.raft.errors import SnapshotTemporarilyUnavailable
from core_py.raft.messages import ConfState, Entry, HardState, Snapshot, SnapshotMeta
from core_py.raft.storage import MemoryStorage
from pd_py.metastore import journal
from protos.kvproto import eraftpb_pb2
from protos.private import metaraft_pb2

LOG_FILE = "raft.log"
KEEP_ENTRIES = 5_000
"""Entries kept in memory behind a snapshot, so that a member that was away shortly needs no snapshot."""


class DurableLog(MemoryStorage):
    """`core_py.raft.storage.RaftStorage` over one file. The driver of the node calls `write` and `cut`, one at a time."""

    def __init__(self, disk: Disk, workers: Workers) -> None:
        super().__init__()
        self._disk = disk
        self._workers = workers
        self.size_bytes = 0
        self.restored: Snapshot | None = None
        """The newest snapshot of the file: the state machine begins with it."""
        self.make_snapshot: Callable[[], Snapshot] | None = None
        """Gives the state machine at its applied index; set by the replica."""
        self._load()

    @property
    def is_empty(self) -> bool:
        """Whether the member never took part in anything."""
        return self.size_bytes == 0

    @property
    def hard_state(self) -> HardState:
        """What was last written."""
        return self._hard_state

    def _load(self) -> None:
        data = self._disk.read(LOG_FILE) or b""
        payloads, valid = journal.decode(data)
        if data and not payloads:  # the first record is there in whole from the moment the file is
            raise StorageError(f"{LOG_FILE} is damaged or no log at all; remove this member and join it anew")
        try:
            for payload in payloads:
                self._take(metaraft_pb2.LogRecord.FromString(payload))
        except DecodeError as error:
            raise StorageError(f"{LOG_FILE} holds a record that is not what a member writes: {error}") from error
        if valid < len(data):
            self._disk.replace(LOG_FILE, data[:valid])
        self.size_bytes = valid

    def _take(self, record: metaraft_pb2.LogRecord) -> None:
        if record.HasField("snapshot"):
            snapshot = eraft.snapshot_from_pb(record.snapshot)
            self.apply_snapshot(snapshot)
            self.restored = snapshot
        self.append([eraft.entry_from_pb(entry) for entry in record.entries])
        if record.HasField("hard_state"):
            hard = record.hard_state
            self.set_hard_state(HardState(hard.term, hard.vote, hard.commit))

    def begin(self, conf_state: ConfState, index: int, term: int, data: bytes) -> None:
        """Give a new member its first state: a snapshot that all first members make alike. Durable on return."""
        snapshot = Snapshot(SnapshotMeta(index, term, conf_state), data)
        record = metaraft_pb2.LogRecord(snapshot=eraft.snapshot_to_pb(snapshot))
        record.hard_state.CopyFrom(eraftpb_pb2.HardState(term=term, commit=index))
        self._replace(record)
        self._take(record)

    async def write(
        self, snapshot: Snapshot | None, entries: tuple[Entry, ...], hard_state: HardState | None, *, sync: bool
    ) -> None:
        """Write one Ready's part, in one record. Raises OSError, StorageError; nothing may be written after that."""
        record = metaraft_pb2.LogRecord(entries=[eraft.entry_to_pb(entry) for entry in entries])
        if snapshot is not None:
            record.snapshot.CopyFrom(eraft.snapshot_to_pb(snapshot))
        if hard_state is not None:
            record.hard_state.CopyFrom(
                eraftpb_pb2.HardState(term=hard_state.term, vote=hard_state.vote, commit=hard_state.commit)
            )
        data = journal.encode(_checked(record.SerializeToString()))
        self._disk.append(LOG_FILE, data)
        self.size_bytes += len(data)
        if sync:
            await self._workers.sync(lambda: self._disk.sync(LOG_FILE))
        if snapshot is not None:
            self.apply_snapshot(snapshot)
        self.append(entries)
        if hard_state is not None:
            self.set_hard_state(hard_state)

    async def cut(self, snapshot: Snapshot) -> None:
        """Begin a new file with the snapshot and what lies behind it; memory keeps some entries before it for others."""
        index = snapshot.meta.index
        behind = self.entries(index + 1, self.last_index() + 1, None) if index < self.last_index() else []
        record = metaraft_pb2.LogRecord(
            snapshot=eraft.snapshot_to_pb(snapshot), entries=[eraft.entry_to_pb(entry) for entry in behind]
        )
        hard = self._hard_state
        record.hard_state.CopyFrom(eraftpb_pb2.HardState(term=hard.term, vote=hard.vote, commit=hard.commit))
        await self._workers.sync(lambda: self._replace(record))
        self.set_conf_state(snapshot.meta.conf_state)
        self.compact(max(index - KEEP_ENTRIES, self.first_index() - 1))

    def _replace(self, record: metaraft_pb2.LogRecord) -> None:
        data = journal.encode(_checked(record.SerializeToString()))
        self._disk.replace(LOG_FILE, data)
        self.size_bytes = len(data)

    def snapshot(self, request_index: int, to: int) -> Snapshot:
        """See `RaftStorage`: the state machine as it is now."""
        if self.make_snapshot is None:
            raise SnapshotTemporarilyUnavailable("the state machine is not there yet")
        return self.make_snapshot()

    def close(self) -> None:
        """Close the file."""
        self._disk.close()


def _checked(payload: bytes) -> bytes:
    if len(payload) > journal.MAX_RECORD:
        raise StorageError(
            f"the metadata has grown to {len(payload) >> 20} MiB, the limit is {journal.MAX_RECORD >> 20} MiB:"
            " delete keys that clients keep under PD's etcd interface"
        )
    return payload
