"""Region snapshots as bytes: the chunks that carry a frozen region, and the marker of one that is being brought in.

A chunk is a crc32, a family number and pairs (key length, value length, key, value) in ascending order of keys. Families come
in the order of `DATA_CFS`. The last chunk is of family 255 and holds a SnapshotMeta: bytes and checksum over all chunk
bodies of each family that has any, so a chunk that is missing, doubled or of another snapshot is found. Chunks are small
(256 KiB of pairs, more only for a single larger pair), because each is made and taken in one call in a worker thread.

What becomes of a snapshot at its receiver, and why a crash at any point is harmless, is described in `snapshots`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from core_py.errors import CodecError
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.engine.port import DATA_CFS, Pair, Snapshot

CHUNK_BYTES = 256 << 10
MAX_CHUNK_BYTES = 16 << 20  # taken from others: a single pair may be as large as a raft entry
END_FAMILY = 255
_HEAD = struct.Struct(">IB")
_PAIR = struct.Struct(">II")
_SIZE = struct.Struct(">I")


def encode_chunk(family: int, body: bytes) -> bytes:
    """A chunk with its checksum."""
    return _HEAD.pack(zlib.crc32(body), family) + body


def decode_chunk(chunk: bytes) -> tuple[int, bytes]:
    """(family, body). Raises CodecError when the checksum is wrong."""
    if len(chunk) < _HEAD.size:
        raise CodecError("snapshot chunk is truncated")
    checksum, family = _HEAD.unpack_from(chunk)
    body = chunk[_HEAD.size :]
    if zlib.crc32(body) != checksum:
        raise CodecError("snapshot chunk has a wrong checksum")
    return family, body


def chunks_of(view: Snapshot) -> Iterator[bytes]:
    """The chunks of a frozen region; `view` has one stream per data family, in their order."""
    meta = serverpb.SnapshotMeta()
    for family, stream in enumerate(view.streams):
        size, checksum = 0, 0
        for body in _bodies(stream):
            size += len(body)
            checksum = zlib.crc32(body, checksum)
            yield encode_chunk(family, body)
        if size:
            meta.cf_files.add(cf=DATA_CFS[family], size=size, checksum=checksum)
    yield encode_chunk(END_FAMILY, meta.SerializeToString())


def _bodies(pairs: Iterable[Pair]) -> Iterator[bytes]:
    parts: list[bytes] = []
    size = 0
    for key, value in pairs:
        added = len(key) + len(value) + _PAIR.size
        if parts and size + added > CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
        parts += [_PAIR.pack(len(key), len(value)), key, value]
        size += added
    if parts:
        yield b"".join(parts)


def parse_pairs(body: bytes) -> list[Pair]:
    """The pairs of a chunk's body. Raises CodecError when it is cut or its keys do not ascend."""
    out: list[Pair] = []
    pos, end = 0, len(body)
    before = b""
    while pos < end:
        if pos + _PAIR.size > end:
            raise CodecError("snapshot pair is truncated")
        key_size, value_size = _PAIR.unpack_from(body, pos)
        pos += _PAIR.size
        middle = pos + key_size
        if middle + value_size > end:
            raise CodecError("snapshot pair is truncated")
        key = body[pos:middle]
        if key <= before:
            raise CodecError(f"snapshot key {key.hex()} is not above the one before")
        out.append((key, body[middle : middle + value_size]))
        before = key
        pos = middle + value_size
    return out


def parse_end(body: bytes) -> dict[str, tuple[int, int]]:
    """(bytes, checksum) by family, of the last chunk's body. Raises CodecError."""
    try:
        meta = serverpb.SnapshotMeta.FromString(body)
    except DecodeError as error:
        raise CodecError(f"snapshot end is not readable: {error}") from error
    return {file.cf: (file.size, file.checksum) for file in meta.cf_files}


@dataclass(frozen=True, slots=True)
class PendingSnapshot:
    """A snapshot that has taken the place of its region's log and is being brought in: what start-up needs to repeat that."""

    region: metapb_pb2.Region
    index: int
    term: int
    runs: tuple[tuple[str, str], ...]
    """The staged runs that hold its data, as (name, column family)."""
    merged_records: tuple[serverpb.MergedRecord, ...] = ()
    """The regions that became parts of this one; their peers on this store end with it."""

    def to_bytes(self) -> bytes:
        """The marker."""
        state = serverpb.RaftApplyState(applied_index=self.index)
        state.truncated_state.index, state.truncated_state.term = self.index, self.term
        region = serverpb.RegionLocalState(region=self.region, merged_records=self.merged_records)
        parts = [region.SerializeToString(), state.SerializeToString()]
        for name, cf in self.runs:
            parts += [name.encode(), cf.encode()]
        return b"".join([_SIZE.pack(len(part)) + part for part in parts])

    @classmethod
    def from_bytes(cls, data: bytes) -> PendingSnapshot:
        """The inverse of `to_bytes`."""
        parts: list[bytes] = []
        pos = 0
        while pos < len(data):
            (size,) = _SIZE.unpack_from(data, pos)
            pos += _SIZE.size
            parts.append(data[pos : pos + size])
            pos += size
        state = serverpb.RaftApplyState.FromString(parts[1])
        names = [part.decode() for part in parts[2:]]
        runs = tuple(zip(names[::2], names[1::2], strict=True))
        position = state.truncated_state
        region = serverpb.RegionLocalState.FromString(parts[0])
        return cls(region.region, position.index, position.term, runs, tuple(region.merged_records))
