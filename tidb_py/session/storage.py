"""What the SQL front needs of a transactional key-value store; the client library and the in-memory store implement it.

A statement reads at a timestamp through `Reader`, collects its changes, and hands them to the transaction at its end, so
that a failed statement leaves nothing. `Transaction` is snapshot isolation: reads at `start_ts` plus its own writes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from core_py.vector.arrow import Vec
from core_py.vector.plan import Dag

KeyRange = tuple[bytes, bytes]
MAX_TS = (1 << 64) - 1
DEFAULT_LOCK_WAIT_MS = 50_000
Check = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopRequest:
    """A coprocessor request over key ranges."""

    dag: Dag
    ranges: tuple[KeyRange, ...]
    start_ts: int
    keep_order: bool = False
    desc: bool = False
    concurrency: int = 15
    warn: Callable[[int, str], None] | None = None  # gets the warnings of the stores
    limit_hint: int = 0  # rows after which the reader will probably stop; 0: unknown


class Reader(Protocol):
    """Reads at one timestamp."""

    @property
    def ts(self) -> int:
        """The timestamp."""

    async def get(self, key: bytes) -> bytes | None:
        """One value."""

    async def batch_get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Many values; keys without one are left out."""

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> AsyncIterator[tuple[bytes, bytes]]:
        """Pairs in key order."""


class Transaction(Reader, Protocol):
    """A read-write transaction; `get`, `batch_get` and `scan` see its own writes."""

    lock_wait_ms: int
    """How long `lock` waits when it is not told."""
    written_tables: dict[int, object]
    """The SQL layer's note: tables with writes by id, as the writing statements knew them."""

    @property
    def pessimistic(self) -> bool:
        """Whether statements lock what they write."""

    @property
    def for_update_ts(self) -> int:
        """The timestamp at which writing statements read."""

    async def refresh_for_update_ts(self) -> int:
        """A newer timestamp for the next writing statement (the start timestamp when optimistic)."""

    async def lock(self, keys: Sequence[bytes], *, wait_ms: int | None = None) -> None:
        """Lock keys at `for_update_ts`; a newer version is a write conflict."""

    def write(self, changes: Mapping[bytes, bytes | None], unread: Collection[bytes] = ()) -> None:
        """Put (or, with None, delete) keys. Puts of `unread` keys are a write conflict when there is a value."""

    def own_writes(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes | None]]:
        """This transaction's writes in a range, sorted; None is a delete."""

    def has_writes(self, start: bytes, end: bytes) -> bool:
        """Whether there is an own write in a range."""

    @property
    def dirty(self) -> bool:
        """Whether anything was written."""

    def savepoint(self) -> object:
        """A mark to go back to."""

    def rollback_to(self, mark: object) -> None:
        """Forget writes since a mark."""

    async def commit(self, check: Check | None = None) -> int:
        """Make the writes visible; returns the commit timestamp (0 when there was nothing to write).

        `check` runs when nothing but itself can keep the writes from becoming visible: whoever reads after it did, at a newer
        timestamp, sees them or waits for them. It raises to refuse.
        """

    async def rollback(self) -> None:
        """Forget everything and release locks."""


class Storage(Protocol):
    """A transactional store."""

    async def begin(self, *, pessimistic: bool) -> Transaction:
        """Start a transaction at a fresh timestamp."""

    async def timestamp(self) -> int:
        """A fresh timestamp."""

    def snapshot(self, ts: int) -> Reader:
        """Reads at a timestamp; MAX_TS reads the newest committed values."""

    def coprocessor(self, request: CopRequest) -> AsyncGenerator[list[Vec], None]:
        """Run a request; batches of the columns `output_types(request.dag)`."""
