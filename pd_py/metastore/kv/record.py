"""One version of one key, and spans of keys. Values.

A span is [start, end); `end` None means "to the last key". A single key k is the span [k, k + one zero byte), so that there is only
one form.
"""

from __future__ import annotations

from dataclasses import dataclass

from protos.etcd import kv_pb2

OVERHEAD_BYTES = 200
"""What a version costs in memory besides its key and value, roughly."""


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """What a key became at `mod_revision`. `version` counts since its creation; 0 is a deletion."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int

    @property
    def is_deleted(self) -> bool:
        """Whether the key went away at this revision."""
        return self.version == 0

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        return len(self.key) + len(self.value) + OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class KvEvent:
    """A change of one key, with what was there before, if that is still kept."""

    kv: KeyVersion
    prev: KeyVersion | None


@dataclass(frozen=True, slots=True)
class Span:
    """Keys from `start` up to but not including `end`."""

    start: bytes
    end: bytes | None

    def __contains__(self, key: bytes) -> bool:
        return key >= self.start and (self.end is None or key < self.end)

    @property
    def is_empty(self) -> bool:
        """Whether no key can be in it."""
        return self.end is not None and self.end <= self.start

    @property
    def single_key(self) -> bytes | None:
        """The only key in it, if there is only one."""
        return self.start if self.end == self.start + b"\0" else None


def span_of(key: bytes, range_end: bytes) -> Span:
    """The span that a request means: no end is the key alone, an end of one zero byte is every key from there on."""
    if not range_end:
        return Span(key, key + b"\0")
    return Span(key, None if range_end == b"\0" else range_end)


def prefix_span(prefix: bytes) -> Span:
    """All keys that begin with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    return Span(prefix, stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else None)


def to_pb(version: KeyVersion, *, keys_only: bool = False) -> kv_pb2.KeyValue:
    """As clients see it. A deletion carries key and revision only."""
    return kv_pb2.KeyValue(
        key=version.key,
        value=b"" if keys_only else version.value,
        create_revision=version.create_revision,
        mod_revision=version.mod_revision,
        version=version.version,
        lease=version.lease,
    )


def from_pb(kv: kv_pb2.KeyValue) -> KeyVersion:
    """The inverse of `to_pb`."""
    return KeyVersion(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


def event_pb(event: KvEvent, *, with_prev: bool) -> kv_pb2.Event:
    """A change as watchers are told it."""
    kind = kv_pb2.Event.DELETE if event.kv.is_deleted else kv_pb2.Event.PUT
    prev = to_pb(event.prev) if with_prev and event.prev is not None else None
    return kv_pb2.Event(type=kind, kv=to_pb(event.kv), prev_kv=prev)
