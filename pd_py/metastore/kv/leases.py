"""Leases and the keys that live by them. When a lease is over is not decided here: somebody revokes it by a command.

Invariants: a key belongs to the lease that its newest version names, and to no other; a lease that keys name exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pd_py.metastore.kv.errors import LeaseExists, LeaseNotFound, LeaseTtlTooLarge

MIN_TTL_S = 2
"""A shorter lease could end while PD elects a leader."""
MAX_TTL_S = 9_000_000_000


@dataclass(slots=True)
class Lease:
    """One lease: its time to live as granted, and its keys."""

    id: int
    ttl_s: int
    keys: set[bytes] = field(default_factory=set)


class LeaseTable:
    """All leases by id."""

    def __init__(self) -> None:
        self._by_id: dict[int, Lease] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, lease_id: int) -> bool:
        return lease_id in self._by_id

    def get(self, lease_id: int) -> Lease | None:
        """One lease."""
        return self._by_id.get(lease_id)

    def all(self) -> list[Lease]:
        """All leases, by id."""
        return [self._by_id[lease_id] for lease_id in sorted(self._by_id)]

    def newest_first(self) -> Iterator[Lease]:
        """All leases, the last granted first. A restored table is in the order of ids."""
        return reversed(self._by_id.values())

    def grant(self, lease_id: int, ttl_s: int) -> Lease:
        """A new lease. Raises LeaseNotFound for id 0, LeaseExists, LeaseTtlTooLarge."""
        if lease_id == 0:
            raise LeaseNotFound
        if ttl_s > MAX_TTL_S:
            raise LeaseTtlTooLarge
        if lease_id in self._by_id:
            raise LeaseExists
        lease = self._by_id[lease_id] = Lease(lease_id, max(ttl_s, MIN_TTL_S))
        return lease

    def revoke(self, lease_id: int) -> list[bytes]:
        """End a lease; its keys in order, which must go with it. Raises LeaseNotFound."""
        lease = self._by_id.pop(lease_id, None)
        if lease is None:
            raise LeaseNotFound
        return sorted(lease.keys)

    def move(self, key: bytes, old: int, new: int) -> None:
        """A key leaves one lease for another; 0 is none."""
        if old == new:
            return
        if old in self._by_id:
            self._by_id[old].keys.discard(key)
        if new:
            self._by_id[new].keys.add(key)
