"""Which watchers a change concerns. Pure bookkeeping; `watch.py` talks to clients.

Nothing is queued for a watcher: it only notes from which revision on it has to look, and reads the store's history when its client
takes more. So a slow client costs no memory; one that is slower than the history is kept is told so, with the revision from
which it can begin again.

Invariant: a watcher that is not `behind` has been given every event up to `WatchHub.seen` that concerns it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pd_py.metastore.kv.record import KvEvent, Span
from pd_py.metastore.kv.state import KvState


@dataclass(eq=False, slots=True)
class Watcher:
    """One watch of one client."""

    id: int
    span: Span
    wake: Callable[[], None]
    next_revision: int
    """Where to look on from when it is behind; and no event from before is wanted."""
    prev_kv: bool = False
    no_puts: bool = False
    no_deletes: bool = False
    progress_notify: bool = False
    fragment: bool = False
    behind: bool = False
    quiet: bool = True
    """No events were sent since the last progress notification."""

    def wants(self, event: KvEvent) -> bool:
        """Whether the client is told of this change."""
        if event.kv.mod_revision < self.next_revision or event.kv.key not in self.span:
            return False
        return not (self.no_deletes if event.kv.is_deleted else self.no_puts)


class WatchHub:
    """All watchers of one member. Call `changed` after every change of the store."""

    def __init__(self, kv: Callable[[], KvState]) -> None:
        self._kv = kv
        self.seen = kv().revision
        self._by_key: dict[bytes, dict[Watcher, None]] = {}
        self._by_span: dict[Watcher, None] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, watcher: Watcher) -> None:
        """Begin: at `next_revision` if that is past or to come, at the next revision if it is 0."""
        self.changed()
        if not watcher.next_revision:
            watcher.next_revision = self.seen + 1
        watcher.behind = watcher.next_revision <= self.seen
        key = watcher.span.single_key
        if key is None:
            self._by_span[watcher] = None
        else:
            self._by_key.setdefault(key, {})[watcher] = None
        self._count += 1

    def remove(self, watcher: Watcher) -> None:
        """End; once for each `add`."""
        key = watcher.span.single_key
        if key is None:
            del self._by_span[watcher]
        else:
            del self._by_key[key][watcher]
            if not self._by_key[key]:
                del self._by_key[key]
        self._count -= 1

    def changed(self) -> None:
        """Look at what is new and wake those whom it concerns."""
        kv = self._kv()
        first, self.seen = self.seen + 1, kv.revision
        if first > self.seen or not self._count:
            return
        if first < kv.compacted:
            # A snapshot took the store further than its history goes: whoever is behind finds that out by reading.
            for watcher in [*self._by_span, *(one for found in self._by_key.values() for one in found)]:
                if watcher.next_revision <= self.seen:
                    self._fall_behind(watcher, max(first, watcher.next_revision))
            return
        for event in kv.events_since(first):
            for watcher in self._by_key.get(event.kv.key, ()):
                if watcher.wants(event):
                    self._fall_behind(watcher, event.kv.mod_revision)
            for watcher in self._by_span:
                if watcher.wants(event):
                    self._fall_behind(watcher, event.kv.mod_revision)

    def _fall_behind(self, watcher: Watcher, revision: int) -> None:
        if not watcher.behind:
            watcher.behind, watcher.next_revision = True, revision
            watcher.wake()

    def read(self, watcher: Watcher, max_events: int) -> list[KvEvent]:
        """The next events of a watcher that is behind, whole revisions, perhaps none. Raises Compacted."""
        self.changed()
        events = self._kv().events_since(watcher.next_revision, max_events)
        found = [event for event in events if watcher.wants(event)]
        if len(events) < max_events:
            watcher.next_revision, watcher.behind = self.seen + 1, False
        else:
            watcher.next_revision = events[-1].kv.mod_revision + 1
            watcher.behind = watcher.next_revision <= self.seen
        return found
