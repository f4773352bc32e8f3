"""Region snapshots: made from a frozen view, streamed in checked chunks, staged, brought in so that a crash is safe.

Sending: the core asks for a snapshot; the kv database is frozen in the same turn, so the data is exactly that of the applied
index. Chunks of at most 1 MiB are cut in a worker thread while they are sent. Layout of a chunk: crc32, family number, then
(key length, value length, key, value) pairs; the last chunk is family 255 with the number of chunks before it.

Receiving: chunks are staged in the raft database. Bringing in: (1) in one synced raft batch the log is replaced by the snapshot's
position and a marker is set; (2) old data is deleted, the staged pairs are ingested, the region state is written and synced;
(3) marker and stage are removed. A crash before (1) leaves the old state, after it the marker makes start-up repeat (2),
which can be repeated at will. The answer to the leader leaves only after (2).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

from core_py.errors import CodecError
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.engine.port import CF_DEFAULT, DATA_CFS, Engine, Pair, Snapshot
from tikv_py.raftstore import keys

CHUNK_BYTES = 1 << 20
END_FAMILY = 255
_HEAD = struct.Struct(">IB")
_PAIR = struct.Struct(">II")
_COUNT = struct.Struct(">I")


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
    count = 0
    for family, stream in enumerate(view.streams):
        parts: list[bytes] = []
        size = 0
        for key, value in stream:
            parts += [_PAIR.pack(len(key), len(value)), key, value]
            size += len(key) + len(value) + _PAIR.size
            if size >= CHUNK_BYTES:
                yield encode_chunk(family, b"".join(parts))
                count += 1
                parts, size = [], 0
        if parts:
            yield encode_chunk(family, b"".join(parts))
            count += 1
    yield encode_chunk(END_FAMILY, _COUNT.pack(count))


def pairs_of(chunks: Sequence[bytes]) -> list[tuple[str, list[Pair]]]:
    """The pairs of all chunks by family. Raises CodecError when one is damaged or missing."""
    families: list[tuple[str, list[Pair]]] = [(cf, []) for cf in DATA_CFS]
    announced = -1
    for at, chunk in enumerate(chunks):
        family, body = decode_chunk(chunk)
        if family == END_FAMILY:
            announced = _COUNT.unpack(body)[0]
            if announced != at:
                raise CodecError(f"snapshot has {at} chunks of {announced}")
            continue
        if family >= len(families):
            raise CodecError(f"snapshot family {family} is unknown")
        _parse_pairs(body, families[family][1])
    if announced < 0:
        raise CodecError("snapshot has no end")
    return families


def _parse_pairs(body: bytes, out: list[Pair]) -> None:
    pos, end = 0, len(body)
    while pos < end:
        if pos + _PAIR.size > end:
            raise CodecError("snapshot pair is truncated")
        key_size, value_size = _PAIR.unpack_from(body, pos)
        pos += _PAIR.size
        middle = pos + key_size
        if middle + value_size > end:
            raise CodecError("snapshot pair is truncated")
        out.append((body[pos:middle], body[middle : middle + value_size]))
        pos = middle + value_size


class Stage:
    """Chunks of one region's snapshot on their way into the raft database."""

    def __init__(self, raft_db: Engine, region_id: int) -> None:
        self._db = raft_db
        self.region_id = region_id
        self._count = 0
        batch = raft_db.batch()
        batch.delete_range(CF_DEFAULT, keys.snapshot_chunk_key(region_id, 0), keys.snapshot_chunks_end(region_id))
        raft_db.write(batch)

    def add(self, chunk: bytes) -> bool:
        """Check and store the next chunk; True when it was the last. Raises CodecError."""
        family, body = decode_chunk(chunk)
        if family == END_FAMILY and _COUNT.unpack(body)[0] != self._count:
            raise CodecError(
                f"snapshot of region {self.region_id}: {self._count} chunks of {_COUNT.unpack(body)[0]} came"
            )
        batch = self._db.batch()
        batch.put(CF_DEFAULT, keys.snapshot_chunk_key(self.region_id, self._count), chunk)
        self._db.write(batch)
        self._count += 1
        return family == END_FAMILY


def staged_pairs(raft_db: Engine, region_id: int) -> list[tuple[str, list[Pair]]]:
    """Read a complete stage back. Raises CodecError."""
    chunks = raft_db.scan(CF_DEFAULT, keys.snapshot_chunk_key(region_id, 0), keys.snapshot_chunks_end(region_id))
    return pairs_of([chunk for _, chunk in chunks])


def pending_marker(region: bytes, index: int, term: int) -> bytes:
    """What start-up needs to repeat a snapshot's bringing in."""
    data = serverpb.RaftApplyState(applied_index=index)
    data.truncated_state.index, data.truncated_state.term = index, term
    return struct.pack(">I", len(region)) + region + data.SerializeToString()


def decode_pending_marker(data: bytes) -> tuple[bytes, int, int]:
    """(region, index, term)."""
    (size,) = struct.unpack_from(">I", data)
    state = serverpb.RaftApplyState.FromString(data[4 + size :])
    return data[4 : 4 + size], state.truncated_state.index, state.truncated_state.term
