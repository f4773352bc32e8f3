"""Where the GC state is kept: the public keys in the public formats, so that tools and other versions of clients read it.

    /pd/{id}/gc/safe_point                        the GC safe point, hexadecimal
    /pd/{id}/gc/safe_point/service/{barrier}      a barrier, JSON of a service safe point
    /pd/{id}/gc/global_gc_barriers/{barrier}      a global barrier, JSON
    /pd/{id}/gc/gc_state_revision                 counts the changes
    /tidb/store/gcworker/saved_safe_point         the txn safe point, decimal
    /tidb/server/minstartts/{server}              written by TiDB servers, decimal

The last two lie where clients can write. So nothing is kept in memory: each decision reads them anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pd_py.gc.errors import UnreadableState
from pd_py.gc.rules import GC_WORKER, MAX_INT64, Barrier, GcState
from pd_py.metastore.port import Metadata

TXN_SAFE_POINT = "/tidb/store/gcworker/saved_safe_point"
MIN_START_TS = "/tidb/server/minstartts/"
MAX_TS = (1 << 64) - 1


class GcStorage:
    """The keys of one cluster."""

    def __init__(self, store: Metadata, prefix: str) -> None:
        self._store = store
        self.gc_safe_point_key = f"{prefix}/gc/safe_point"
        self._barriers = f"{prefix}/gc/safe_point/service/"
        self._global_barriers = f"{prefix}/gc/global_gc_barriers/"
        self._revision_key = f"{prefix}/gc/gc_state_revision"

    def load(self) -> GcState:
        """Everything. Raises UnreadableState."""
        return GcState(
            self._number(TXN_SAFE_POINT, 10),
            self._number(self.gc_safe_point_key, 16),
            tuple(one for one in self._all(self._barriers, _barrier) if one.barrier_id != GC_WORKER),
            tuple(self._all(self._global_barriers, _global_barrier)),
            tuple(
                (key.removeprefix(MIN_START_TS), _parse(key, value, 10))
                for key, value in self._store.prefix(MIN_START_TS)
            ),
        )

    def _number(self, key: str, base: int) -> int:
        value = self._store.get(key)
        return 0 if not value else _parse(key, value, base)

    def _all(self, prefix: str, decode: Any) -> Iterator[Barrier]:
        for key, value in self._store.prefix(prefix):
            try:
                yield decode(json.loads(value))
            except (ValueError, KeyError, TypeError) as error:
                raise UnreadableState(key, value) from error

    def key_of(self, barrier: Barrier) -> str:
        """Where a barrier is kept."""
        return (self._global_barriers if barrier.is_global else self._barriers) + barrier.barrier_id

    async def write(
        self,
        *,
        txn_safe_point: int | None = None,
        gc_safe_point: int | None = None,
        put: tuple[Barrier, ...] = (),
        remove: tuple[Barrier, ...] = (),
    ) -> None:
        """Make changes, all or none. Raises what `Metadata.write` does."""
        changes: dict[str, bytes | None] = {self.key_of(barrier): None for barrier in remove}
        changes.update((self.key_of(barrier), encode(barrier)) for barrier in put)
        if txn_safe_point is not None:
            changes[TXN_SAFE_POINT] = str(txn_safe_point).encode()
        if gc_safe_point is not None:
            changes[self.gc_safe_point_key] = f"{gc_safe_point:x}".encode()
        changes[self._revision_key] = str(self._number(self._revision_key, 10) + 1).encode()
        await self._store.write(changes)


def _parse(key: str, value: bytes, base: int) -> int:
    try:
        number = int(value.decode("ascii"), base)
    except ValueError as error:
        raise UnreadableState(key, value) from error
    if not 0 <= number <= MAX_TS:
        raise UnreadableState(key, value)
    return number


def _end(seconds: int) -> int | None:
    return int(seconds) if 0 < seconds < MAX_INT64 else None


def _barrier(value: dict[str, Any]) -> Barrier:
    return Barrier(str(value["service_id"]), int(value["safe_point"]), _end(value["expired_at"]))


def _global_barrier(value: dict[str, Any]) -> Barrier:
    return Barrier(str(value["barrier_id"]), int(value["barrier_ts"]), _end(value["expiration_time"]), is_global=True)


def service_safe_point(barrier: Barrier) -> dict[str, Any]:
    """A barrier as the old interface shows it, and as it is stored."""
    end = MAX_INT64 if barrier.expires_at_s is None else barrier.expires_at_s
    return {"service_id": barrier.barrier_id, "expired_at": end, "safe_point": barrier.barrier_ts}


def encode(barrier: Barrier) -> bytes:
    """As it is stored."""
    if not barrier.is_global:
        return _json(service_safe_point(barrier))
    return _json(
        {
            "barrier_id": barrier.barrier_id,
            "barrier_ts": barrier.barrier_ts,
            "expiration_time": barrier.expires_at_s or 0,
        }
    )


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
