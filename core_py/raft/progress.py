"""What a leader knows of one follower's log, and how fast it may send to it.

Three states. PROBE: the follower's log is unknown, one append at a time. REPLICATE: appends are pipelined, `next` runs
ahead of `match` within a window. SNAPSHOT: nothing is sent until the snapshot is reported.

Invariants: 0 <= match < next; in PROBE at most one append is unanswered; in SNAPSHOT `pending_snapshot` > 0; the
window never holds more than its count of messages.

What it does not do: decide what to send; that is `replication.py`.
"""

from __future__ import annotations

import enum
from collections import deque

from core_py.errors import invariant


class ProgressState(enum.Enum):
    """How a leader sends to a follower."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Inflights:
    """The window of appends sent and not answered, as (last index, bytes); full by count or by bytes."""

    __slots__ = ("_bytes", "_items", "_max_bytes", "_max_count")

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._items: deque[tuple[int, int]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        """True if nothing more may be sent. One oversized message fits an empty window."""
        return len(self._items) >= self._max_count or self._bytes >= self._max_bytes

    def add(self, last_index: int, size_bytes: int) -> None:
        """Note a message sent."""
        invariant(len(self._items) < self._max_count, "append sent into a full window")
        self._items.append((last_index, size_bytes))
        self._bytes += size_bytes

    def free_to(self, index: int) -> None:
        """The follower has everything up to `index`."""
        items = self._items
        while items and items[0][0] <= index:
            self._bytes -= items.popleft()[1]

    def free_first(self) -> None:
        """Give up the oldest message, so that a full window whose answers are lost can probe again."""
        if self._items:
            self._bytes -= self._items.popleft()[1]

    def reset(self) -> None:
        """Forget all messages."""
        self._items.clear()
        self._bytes = 0


class Progress:
    """A leader's knowledge of one peer."""

    __slots__ = (
        "acked_round",
        "inflights",
        "match",
        "next",
        "pending_snapshot",
        "probe_sent",
        "recent_active",
        "request_snapshot",
        "state",
    )

    def __init__(self, next_index: int, max_inflight: int, max_inflight_bytes: int) -> None:
        self.match = 0
        self.next = next_index
        self.state = ProgressState.PROBE
        self.pending_snapshot = 0  # index of the snapshot sent; only in SNAPSHOT
        self.request_snapshot = 0  # the follower asked for a snapshot at this index or later
        self.probe_sent = False  # only in PROBE: an append is unanswered
        self.recent_active = False  # heard since the last CheckQuorum
        self.acked_round = 0  # the last heartbeat round it answered, in the leader's term
        self.inflights = Inflights(max_inflight, max_inflight_bytes)

    def reset(self, next_index: int) -> None:
        """Forget everything; a new term begins."""
        self.match = 0
        self.next = next_index
        self.recent_active = False
        self.acked_round = 0
        self.request_snapshot = 0
        self._enter(ProgressState.PROBE)

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.pending_snapshot = 0
        self.probe_sent = False
        self.inflights.reset()

    def become_probe(self) -> None:
        """Send one append at a time from now on; after a delivered snapshot continue behind it."""
        next_index = self.match + 1
        if self.state is ProgressState.SNAPSHOT:
            next_index = max(next_index, self.pending_snapshot + 1)
        self._enter(ProgressState.PROBE)
        self.next = next_index

    def become_replicate(self) -> None:
        """Pipeline from now on."""
        self._enter(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, snapshot_index: int) -> None:
        """Send nothing until the snapshot at this index is reported."""
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = snapshot_index
        self.request_snapshot = 0

    @property
    def paused(self) -> bool:
        """True if no append may be sent now."""
        if self.state is ProgressState.REPLICATE:
            return self.inflights.full
        return self.probe_sent if self.state is ProgressState.PROBE else True

    def sent(self, last_index: int, size_bytes: int) -> None:
        """An append with entries up to `last_index` was sent."""
        if self.state is ProgressState.REPLICATE:
            self.next = last_index + 1
            self.inflights.add(last_index, size_bytes)
        else:
            self.probe_sent = True

    def maybe_update(self, index: int) -> bool:
        """The peer has durably everything up to `index`; False if that is not news."""
        self.probe_sent = False
        self.next = max(self.next, index + 1)
        if index <= self.match:
            return False
        self.match = index
        return True

    def maybe_decrease(self, rejected: int, hint: int) -> bool:
        """The peer refused an append after index `rejected`; False if the answer is stale.

        `hint` is the best guess of the last common index.
        """
        if self.state is ProgressState.REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
            return True
        # A probe answers for next - 1 and for nothing else.
        if self.state is ProgressState.SNAPSHOT or self.next - 1 != rejected:
            return False
        self.next = max(min(rejected, hint + 1), self.match + 1)
        self.probe_sent = False
        return True

    def report_unreachable(self) -> None:
        """Appends are being lost: probe instead of pipelining."""
        if self.state is ProgressState.REPLICATE:
            self.become_probe()

    def report_snapshot(self, *, ok: bool) -> None:
        """The snapshot was delivered, or must be tried again; either way wait for the peer's next answer."""
        if self.state is ProgressState.SNAPSHOT:
            if not ok:
                self.pending_snapshot = 0
            self.become_probe()
            self.probe_sent = True

    def check_invariants(self) -> None:
        """Raise InvariantViolation if the state is impossible."""
        invariant(0 <= self.match < self.next, f"progress match {self.match} next {self.next}")
        in_snapshot = self.state is ProgressState.SNAPSHOT
        invariant(in_snapshot == (self.pending_snapshot > 0), "pending snapshot outside the snapshot state")
        invariant(self.state is ProgressState.PROBE or not self.probe_sent, "probe sent outside the probe state")
        invariant(self.state is ProgressState.REPLICATE or len(self.inflights) == 0, "window outside replicate")

    def describe(self) -> str:
        """One line for status pages and transcripts."""
        text = f"{self.state.value} match={self.match} next={self.next}"
        if self.pending_snapshot:
            text += f" pending_snapshot={self.pending_snapshot}"
        if len(self.inflights):
            text += f" inflight={len(self.inflights)}"
        return text + (" paused" if self.paused else "") + ("" if self.recent_active else " inactive")
