"""The pure part of the region cache: known regions sorted by start key and by id, and which of two views is newer.

Invariants (`check_invariants`): regions do not overlap; both indexes hold the same regions. Of two views that overlap, the one
with the larger version is newer: a split raises the version of all parts and a merge takes the larger one plus one.
Bounds are physical keys; `start` and `end` are the same bounds as user keys. Does no I/O.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace

from core_py.codec import memcomparable
from core_py.errors import CodecError, invariant
from protos.kvproto import metapb_pb2


@dataclass(frozen=True, slots=True)
class KeyCodec:
    """How user keys become the physical keys that region bounds are made of."""

    encode: Callable[[bytes], bytes]
    decode_bound: Callable[[bytes], bytes]


def _same(key: bytes) -> bytes:
    return key


def _user_bound(bound: bytes) -> bytes:
    """The smallest user key whose encoding is >= `bound`; bounds set by raw tools need not be encoded keys."""
    if not bound:
        return b""
    try:
        return memcomparable.decode_whole(bound)
    except CodecError:
        pass
    whole, pos = b"", 0
    while len(bound) - pos >= 9 and bound[pos + 8] == 0xFF:
        whole += bound[pos : pos + 8]
        pos += 9
    tail = bound[pos : pos + 8]
    for candidate in (whole + tail.rstrip(b"\0"), whole + tail):
        if memcomparable.encode(candidate) >= bound:
            return candidate
    return whole + tail + b"\0"


RAW_KEYS = KeyCodec(_same, _same)
TXN_KEYS = KeyCodec(memcomparable.encode, _user_bound)


@dataclass(frozen=True, slots=True)
class Region:
    """One view of a region; `leader` is who is believed to lead. Replaced, never changed."""

    id: int
    conf_ver: int
    version: int
    start_key: bytes
    end_key: bytes
    start: bytes
    end: bytes
    meta: metapb_pb2.Region
    leader: metapb_pb2.Peer

    @classmethod
    def of(cls, meta: metapb_pb2.Region, leader: metapb_pb2.Peer | None, codec: KeyCodec) -> Region:
        """From PD's or a store's description; without a known leader the first voter is tried first."""
        epoch = meta.region_epoch
        return cls(
            meta.id,
            epoch.conf_ver,
            epoch.version,
            meta.start_key,
            meta.end_key,
            codec.decode_bound(meta.start_key),
            codec.decode_bound(meta.end_key),
            meta,
            leader if leader is not None and leader.id else first_voter(meta),
        )

    def contains(self, key: bytes) -> bool:
        """Whether a physical key lies in it."""
        return self.start_key <= key and (not self.end_key or key < self.end_key)

    def same_epoch(self, other: Region) -> bool:
        """Whether both are the same version of the same region."""
        return (self.id, self.conf_ver, self.version) == (other.id, other.conf_ver, other.version)

    def __str__(self) -> str:
        return f"region {self.id} epoch {self.conf_ver},{self.version} store {self.leader.store_id}"


def least_end(left: bytes, right: bytes) -> bytes:
    """The smaller of two upper bounds, of which empty means plus infinity."""
    return min(left, right) if left and right else left or right


def first_voter(meta: metapb_pb2.Region) -> metapb_pb2.Peer:
    """A peer to ask when no leader is known."""
    for peer in meta.peers:
        if peer.role != metapb_pb2.Learner and not peer.is_witness:
            return peer
    return meta.peers[0] if meta.peers else metapb_pb2.Peer()


TTL_S = 600.0
"""A region that no request used for so long is asked for again at its next use."""
TTL_JITTER_S = 60.0
"""Lifetimes differ by up to so much, or all regions of a client would be loaded again at once."""
MAX_REGIONS = 100_000
SWEEP_COUNT = 16
"""Entries looked at per `sweep`."""


def _jitter_s(region_id: int) -> float:
    """The same for one region always, and spread over all of them."""
    return (region_id * 2_654_435_761 & 0xFFFFFFFF) / 2**32 * TTL_JITTER_S


class RegionMap:
    """Known regions. Entries that nobody uses expire, and of too many the longest unused go; the time is the caller's."""

    def __init__(self, max_regions: int = MAX_REGIONS, ttl_s: float = TTL_S) -> None:
        self._max, self._ttl_s = max_regions, ttl_s
        self._starts: list[bytes] = []
        self._sorted: list[Region] = []
        self._by_id: dict[int, Region] = {}
        self._expires: dict[int, float] = {}
        self._worn: set[int] = set()  # regions that expire although they are used
        self._swept_to = 0

    def __len__(self) -> int:
        return len(self._sorted)

    def get(self, region_id: int) -> Region | None:
        """By id."""
        return self._by_id.get(region_id)

    def locate(self, key: bytes) -> Region | None:
        """The region holding a physical key."""
        at = bisect_right(self._starts, key) - 1
        if at < 0:
            return None
        region = self._sorted[at]
        return region if not region.end_key or key < region.end_key else None

    def use(self, region: Region, now_s: float) -> bool:
        """Whether a known region may still be used; using it lengthens its life. An expired one is forgotten."""
        expires = self._expires.get(region.id, 0.0)
        if expires - now_s >= self._ttl_s:
            return True  # used a short time ago: the usual case
        if expires <= now_s:
            self.remove(region.id)
            return False
        if region.id not in self._worn:
            self._expires[region.id] = now_s + self._ttl_s + _jitter_s(region.id)
        return True

    def locate_end(self, key: bytes) -> Region | None:
        """The region holding the keys just below a physical key; empty means plus infinity."""
        if not key:
            last = self._sorted[-1] if self._sorted else None
            return last if last is not None and not last.end_key else None
        at = bisect_left(self._starts, key) - 1
        if at < 0:
            return None
        region = self._sorted[at]
        return region if not region.end_key or key <= region.end_key else None

    def _overlapping(self, start: bytes, end: bytes) -> tuple[int, int]:
        low = bisect_right(self._starts, start) - 1
        if low < 0 or (self._sorted[low].end_key and self._sorted[low].end_key <= start):
            low += 1
        high = bisect_left(self._starts, end) if end else len(self._sorted)
        return low, max(low, high)

    def insert(self, region: Region, now_s: float = 0.0, *, is_worn: bool = False) -> bool:
        """Take a view in, replacing older ones that it overlaps; False (and no change) when a newer one is known.

        A worn region (one with peers that are down) expires even if it is used, because its view will change.
        """
        known = self._by_id.get(region.id)
        if known is not None and (known.version > region.version or known.conf_ver > region.conf_ver):
            return False
        low, high = self._overlapping(region.start_key, region.end_key)
        if any(other.version > region.version for other in self._sorted[low:high]):
            return False
        if known is not None:
            self.remove(known.id)
            low, high = self._overlapping(region.start_key, region.end_key)
        for other in self._sorted[low:high]:
            self._drop(other.id)
        self._sorted[low:high] = [region]
        self._starts[low:high] = [region.start_key]
        self._by_id[region.id] = region
        self._expires[region.id] = now_s + self._ttl_s + _jitter_s(region.id)
        if is_worn:
            self._worn.add(region.id)
        return True

    def _drop(self, region_id: int) -> Region | None:
        self._expires.pop(region_id, None)
        self._worn.discard(region_id)
        return self._by_id.pop(region_id, None)

    def sweep(self, now_s: float) -> int:
        """Forget some expired regions, and the longest unused when there are too many; returns how many."""
        before = len(self._sorted)
        for _ in range(min(SWEEP_COUNT, before)):
            self._swept_to = self._swept_to % len(self._sorted) if self._sorted else 0
            region_id = self._sorted[self._swept_to].id
            if self._expires[region_id] <= now_s:
                self.remove(region_id)
                if not self._sorted:
                    break
            else:
                self._swept_to += 1
        if len(self._sorted) > self._max:
            surplus = len(self._sorted) - self._max + self._max // 100
            for region_id in heapq.nsmallest(surplus, self._expires, key=self._expires.__getitem__):
                self.remove(region_id)
        return before - len(self._sorted)

    def remove(self, region_id: int) -> None:
        """Forget a region."""
        region = self._drop(region_id)
        if region is not None:
            at = bisect_left(self._starts, region.start_key)
            del self._starts[at], self._sorted[at]

    def set_leader(self, region: Region, leader: metapb_pb2.Peer) -> bool:
        """Believe in another leader of this version of the region; False when it is not known any more."""
        known = self._by_id.get(region.id)
        if known is None or not known.same_epoch(region):
            return False
        at = bisect_left(self._starts, known.start_key)
        self._sorted[at] = self._by_id[known.id] = replace(known, leader=leader)
        return True

    def check_invariants(self) -> None:
        """For tests."""
        invariant(self._starts == [r.start_key for r in self._sorted], "starts are those of the regions")
        invariant({r.id: r for r in self._sorted} == self._by_id, "both indexes hold the same regions")
        invariant(self._expires.keys() == self._by_id.keys(), "every region expires")
        invariant(self._worn <= self._by_id.keys(), "only known regions are worn")
        for left, right in zip(self._sorted, self._sorted[1:], strict=False):
            invariant(left.end_key and left.end_key <= right.start_key, f"{left} and {right} overlap")
