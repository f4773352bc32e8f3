"""All kept versions of all keys, by key and by revision.

Reads at any revision from `compacted` on are exact, and so are the events since then. `history` holds every version with
mod_revision >= `compacted`, in order; of the time before, a key keeps only the version that a read at `compacted` sees.

Invariants: a key has at most one version per revision; versions of a key are in order of revision; a key without versions is not
in the sorted list. Nothing here depends on anything but the sequence of calls, so members that make the same calls hold the same.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from operator import attrgetter

from pd_py.metastore.kv.errors import Compacted, FutureRevision
from pd_py.metastore.kv.record import KeyVersion, KvEvent, Span

HISTORY_REVISIONS = 10_000
"""How many revisions can be read and watched back, at most."""
HISTORY_BYTES = 64 << 20
"""What they may take, at most; beyond either limit the older half goes."""
_REBUILD_FROM = 64

_mod_revision = attrgetter("mod_revision")


class Versions:
    """The versions of one state."""

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = 0
        self.size_bytes = 0
        self._keys: list[bytes] = []
        self._by_key: dict[bytes, list[KeyVersion]] = {}
        self._history: list[KeyVersion] = []
        self._history_bytes = 0

    # ---- reading ----

    def get(self, key: bytes) -> KeyVersion | None:
        """The key as it is now."""
        versions = self._by_key.get(key)
        return None if versions is None or versions[-1].is_deleted else versions[-1]

    def at(self, key: bytes, revision: int) -> KeyVersion | None:
        """The key as it was at a revision that is kept."""
        versions = self._by_key.get(key, ())
        index = bisect_right(versions, revision, key=_mod_revision)
        found = versions[index - 1] if index else None
        return None if found is None or found.is_deleted else found

    def within(self, span: Span, revision: int = 0) -> Iterator[KeyVersion]:
        """The live keys of a span in order, now or at a kept revision. Nothing may change meanwhile."""
        key = span.single_key
        if key is not None:
            found = self.at(key, revision) if revision else self.get(key)
            if found is not None:
                yield found
            return
        by_key = self._by_key
        for position in range(*self._positions(span)):
            key = self._keys[position]
            if revision:
                found = self.at(key, revision)
            else:
                newest = by_key[key][-1]
                found = None if newest.is_deleted else newest
            if found is not None:
                yield found

    def check_revision(self, revision: int) -> None:
        """Raise Compacted or FutureRevision unless the revision can be read; 0 is now."""
        if revision > self.revision:
            raise FutureRevision
        if revision < 0 or 0 < revision < self.compacted:
            raise Compacted

    def events_since(self, revision: int, max_events: int | None = None) -> list[KvEvent]:
        """All changes from `revision` on, in order; with a limit, whole revisions until it is reached. Raises Compacted."""
        if revision < self.compacted:
            raise Compacted
        history = self._history
        first = bisect_left(history, revision, key=_mod_revision)
        last = len(history)
        if max_events is not None and first + max_events < last:
            last = bisect_right(history, history[first + max_events - 1].mod_revision, key=_mod_revision)
        return [KvEvent(version, self._before(version)) for version in history[first:last]]

    def _before(self, version: KeyVersion) -> KeyVersion | None:
        versions = self._by_key[version.key]
        index = bisect_left(versions, version.mod_revision, key=_mod_revision)
        return versions[index - 1] if index and not versions[index - 1].is_deleted else None

    def _positions(self, span: Span) -> tuple[int, int]:
        first = bisect_left(self._keys, span.start)
        return first, len(self._keys) if span.end is None else bisect_left(self._keys, span.end)

    # ---- writing ----

    def put(self, key: bytes, value: bytes, lease: int) -> KeyVersion | None:
        """Set a key in the revision under way (`revision` + 1); what it was before."""
        revision = self.revision + 1
        before = self.get(key)
        created, number = (revision, 1) if before is None else (before.create_revision, before.version + 1)
        self._append(KeyVersion(key, value, created, revision, number, lease))
        return before

    def delete(self, key: bytes) -> KeyVersion | None:
        """Remove a key in the revision under way; what it was, None if it was not there."""
        before = self.get(key)
        if before is not None:
            self._append(KeyVersion(key, b"", 0, self.revision + 1, 0, 0))
        return before

    def finish_revision(self) -> None:
        """The revision under way is complete, and it changed something."""
        self.revision += 1
        if self.revision - self.compacted > HISTORY_REVISIONS:
            self.compact(self.revision - HISTORY_REVISIONS // 2)
        elif self._history_bytes > HISTORY_BYTES:
            self._compact_bytes()

    def _append(self, version: KeyVersion) -> None:
        self._place(version)
        self._history.append(version)
        self._history_bytes += version.size_bytes

    def _place(self, version: KeyVersion) -> None:
        versions = self._by_key.get(version.key)
        if versions is None:
            self._by_key[version.key] = [version]
            insort(self._keys, version.key)
        else:
            versions.append(version)
        self.size_bytes += version.size_bytes

    def _compact_bytes(self) -> None:
        left, revision = self._history_bytes, self.compacted + 1
        for version in self._history:
            if left <= HISTORY_BYTES // 2:
                break
            left -= version.size_bytes
            revision = version.mod_revision + 1
        self.compact(min(revision, self.revision))

    def compact(self, revision: int) -> None:
        """Forget what only reads and watches before `revision` need. Raises Compacted, FutureRevision."""
        if revision <= self.compacted:
            raise Compacted
        if revision > self.revision:
            raise FutureRevision
        self.compacted = revision
        end = bisect_left(self._history, revision, key=_mod_revision)
        touched = {version.key: None for version in self._history[:end]}
        at_revision = bisect_right(self._history, revision, key=_mod_revision)
        touched.update((version.key, None) for version in self._history[end:at_revision])
        self._history_bytes -= sum(version.size_bytes for version in self._history[:end])
        del self._history[:end]
        self._drop_keys([key for key in touched if not self._shorten(key)])

    def _shorten(self, key: bytes) -> bool:
        """Drop what a key keeps from before `compacted` but for what a read there sees; False if nothing is left."""
        versions = self._by_key[key]
        seen = bisect_right(versions, self.compacted, key=_mod_revision) - 1
        keep_from = max(seen, 0)
        if seen >= 0 and versions[seen].is_deleted and versions[seen].mod_revision < self.compacted:
            keep_from = seen + 1
        self.size_bytes -= sum(version.size_bytes for version in versions[:keep_from])
        del versions[:keep_from]
        return bool(versions)

    def _drop_keys(self, keys: list[bytes]) -> None:
        for key in keys:
            del self._by_key[key]
        if len(keys) < _REBUILD_FROM:
            for key in keys:
                del self._keys[bisect_left(self._keys, key)]
        else:
            self._keys = [key for key in self._keys if key in self._by_key]

    # ---- image ----

    def base(self) -> Iterator[KeyVersion]:
        """By key: the kept versions from before `compacted`."""
        for key in self._keys:
            oldest = self._by_key[key][0]
            if oldest.mod_revision < self.compacted:
                yield oldest

    def history(self) -> Iterator[KeyVersion]:
        """By revision: all versions since `compacted`."""
        return iter(self._history)

    def load(self, revision: int, compacted: int, base: Iterable[KeyVersion], history: Iterable[KeyVersion]) -> None:
        """Fill this empty object with what another one held."""
        self.revision, self.compacted = revision, compacted
        for version in base:
            self._place(version)
        for version in history:
            self._append(version)

    def live(self) -> Iterator[KeyVersion]:
        """All keys as they are now, in order."""
        return self.within(Span(b"", None))
