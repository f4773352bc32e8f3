"""What a client did, as plain counts that anybody may read: nothing here is reset, locked or exported by itself.

`ClientStats.rows` gives all of it flat, for a metrics page. Counting costs one dictionary update per event, so it is always on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class RpcStats:
    """Traffic to stores."""

    requests: Counter[str] = field(default_factory=Counter)
    """Commands sent, by method."""
    batches: int = 0
    """Messages on streams; `batched` / `batches` is the mean size."""
    batched: int = 0
    waits: int = 0
    """Times a message was held back for more requests because the store said that it is loaded."""
    streams_opened: int = 0
    streams_broken: int = 0
    streams_idle: int = 0
    """Streams ended because nothing was asked for minutes."""
    deadlines_missed: int = 0
    full: int = 0
    """Callers that found a stream's queue full and waited."""
    health_checks: int = 0


@dataclass(slots=True, eq=False)
class RegionCacheStats:
    """The region cache."""

    loads: Counter[str] = field(default_factory=Counter)
    """Questions to PD, by kind."""
    invalidations: Counter[str] = field(default_factory=Counter)
    """Entries given up, by reason."""
    evictions: int = 0
    """Entries forgotten because nobody used them, or for want of room."""
    leader_switches: int = 0


@dataclass(slots=True, eq=False)
class ClientStats:
    """All counts of one client."""

    rpc: RpcStats
    regions: RegionCacheStats
    retries: Counter[str] = field(default_factory=Counter)
    """Pauses, by kind of back-off."""
    retry_ms: Counter[str] = field(default_factory=Counter)
    """Milliseconds of pauses, by kind of back-off."""
    region_errors: Counter[str] = field(default_factory=Counter)
    """Region errors that stores answered, by variant."""
    rpc_errors: Counter[str] = field(default_factory=Counter)
    """Failed sends, by gRPC status."""
    replica_reads: int = 0
    stale_reads: int = 0

    def rows(self) -> Iterator[tuple[str, str, int]]:
        """(name, label, value) of every count; the label is empty where there is none."""
        for part in (self.rpc, self.regions, self):
            for name in part.__slots__:
                value = getattr(part, name)
                if isinstance(value, Counter):
                    yield from ((name, label, count) for label, count in sorted(value.items()))
                elif isinstance(value, int):
                    yield name, "", value
