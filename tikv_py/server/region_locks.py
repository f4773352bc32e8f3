"""The locks of given transactions in a region, for commands that name transactions instead of keys."""

from __future__ import annotations

from collections.abc import Container

from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.engine.port import CF_LOCK
from tikv_py.mvcc import keys
from tikv_py.mvcc.lock import Lock
from tikv_py.server.kv_read import clamp
from tikv_py.txn.context import RegionAccess


async def locks_of(
    access: RegionAccess, context: pb.Context, start_timestamps: Container[int]
) -> list[tuple[bytes, Lock]]:
    """(user key, lock) of the transactions' locks in the region. Raises region errors."""
    peer = await access.readable(context)
    start, end = clamp(peer, b"", b"")
    found = []
    for key, data in access.store.kv_db.scan(CF_LOCK, start, end):
        lock = Lock.from_bytes(data)
        if lock.start_ts in start_timestamps:
            found.append((keys.user_key(key), lock))
    return found
