"""The newest buckets of each region: its key range in parts, with the flow of each, for readers that work in parallel.

Stores report them; PD only passes them on. Bounded in number and size, because they come from sockets and nothing depends
on them.
"""

from __future__ import annotations

from protos.kvproto import metapb_pb2

REGIONS_MAX = 200_000
"""When full, buckets of further regions are not kept; their readers do without."""
BYTES_MAX = 64 << 10
"""Larger reports are dropped."""


class BucketCache:
    """Buckets by region."""

    def __init__(self) -> None:
        self._by_region: dict[int, metapb_pb2.Buckets] = {}

    def report(self, buckets: metapb_pb2.Buckets) -> bool:
        """Keep a report unless a newer version is there; False when it is dropped."""
        known = self._by_region.get(buckets.region_id)
        if known is None and len(self._by_region) >= REGIONS_MAX:
            return False
        if (known is not None and buckets.version < known.version) or buckets.ByteSize() > BYTES_MAX:
            return False
        self._by_region[buckets.region_id] = buckets
        return True

    def get(self, region_id: int) -> metapb_pb2.Buckets | None:
        """The newest buckets of a region."""
        return self._by_region.get(region_id)

    def forget(self, region_id: int) -> None:
        """A region is gone."""
        self._by_region.pop(region_id, None)
