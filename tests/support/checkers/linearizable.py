"""Is the history of one register linearizable? Wing and Gong's search with Lowe's memory of states already tried.

A history is a list of operations with the times of their call and return. It is linearizable when there is one order of the
operations in which each takes effect between its call and its return and in which each result is what a register
would give. The search takes any operation whose call lies before the first outstanding return, asks the model, and goes on;
a set of operations done together with the state they led to is tried only once.

An operation of unknown outcome (its client saw a timeout) may take effect at any time after its call, or never. Two facts keep
these from blowing up the search; both need every written value to be written by one operation only, which is required:
- a value that was observed was written: the operation took effect before the first observer returned;
- a value that nobody observed changed nothing: the operation can be left out.
What remains are deletions of unknown outcome, which are left pending.

Bounded: after `STEPS_MAX` steps of search `Undecided` is raised, which is no verdict.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

STEPS_MAX = 500_000


class Kind(enum.Enum):
    """What an operation does."""

    GET = "get"
    PUT = "put"
    DELETE = "delete"
    SWAP = "swap"  # compare-and-swap


class Undecided(Exception):
    """The search was given up."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client. Times are seconds."""

    kind: Kind
    called: float
    returned: float | None
    """None: the outcome is unknown."""
    value: bytes | None = None
    """Written by PUT and SWAP, found by GET."""
    expected: bytes | None = None
    """Of SWAP: what must be there."""
    swapped: bool = True
    """Of SWAP: whether it did."""
    found: bytes | None = None
    """Of SWAP: what was there."""
    client: str = ""

    @property
    def writes(self) -> bool:
        """Whether a value is set, if the operation takes effect."""
        return self.kind is Kind.PUT or (self.kind is Kind.SWAP and self.swapped)

    def __str__(self) -> str:
        end = "?" if self.returned is None else f"{self.returned:.4f}"
        text = f"[{self.called:.4f} .. {end}] {self.client} {self.kind.value}"
        if self.kind is Kind.SWAP:
            outcome = (
                "unknown" if self.returned is None else f"{'done' if self.swapped else 'refused'}, found {self.found!r}"
            )
            return f"{text} {self.expected!r} -> {self.value!r}: {outcome}"
        return text if self.kind is Kind.DELETE else f"{text} {self.value!r}"


@dataclass(slots=True)
class _Entry:
    """A call or a return in the list of events that is searched."""

    number: int
    match: _Entry | None = None
    """Of a call: its return."""
    before: _Entry | None = None
    after: _Entry | None = None


def apply(state: bytes | None, operation: Operation) -> tuple[bool, bytes | None]:
    """(whether the result fits the state, the state after)."""
    kind = operation.kind
    if kind is Kind.GET:
        return operation.value == state, state
    if kind is Kind.PUT:
        return True, operation.value
    if kind is Kind.DELETE:
        return True, None
    if operation.swapped:
        return state == operation.expected == operation.found, operation.value
    return state == operation.found and state != operation.expected, state


def settle(history: Sequence[Operation]) -> list[Operation]:
    """Give operations of unknown outcome the latest time at which they took effect, and drop those without any effect."""
    observed: dict[bytes, float] = {}
    waiting = [operation for operation in history if operation.returned is None]
    settled = [operation for operation in history if operation.returned is not None]
    fresh = settled
    while fresh:
        for operation in fresh:
            seen = operation.value if operation.kind is Kind.GET else operation.found
            if seen is not None and operation.returned is not None:
                observed[seen] = min(observed.get(seen, math.inf), operation.returned)
        # A swap that is known now to have been done has observed what it replaced.
        fresh = [
            replace(operation, returned=max(observed[operation.value], operation.called), found=operation.expected)
            for operation in waiting
            if operation.value in observed and operation.writes
        ]
        waiting = [operation for operation in waiting if operation.value not in observed]
        settled = settled + fresh
    return settled + [operation for operation in waiting if operation.kind is Kind.DELETE]


def _events(operations: Sequence[Operation]) -> _Entry:
    """The events in the order of time, linked, behind a head that is none; calls go before returns of the same time."""
    events: list[tuple[float, int, int, _Entry]] = []
    for number, operation in enumerate(operations):
        end = _Entry(number)
        events.append((operation.called, 0, number, _Entry(number, match=end)))
        events.append((math.inf if operation.returned is None else operation.returned, 1, number, end))
    events.sort(key=lambda event: event[:3])
    head = at = _Entry(-1)
    for *_, entry in events:
        at.after, entry.before = entry, at
        at = entry
    return head


def _unlink(entry: _Entry) -> None:
    before, after = entry.before, entry.after
    assert before is not None
    before.after = after
    if after is not None:
        after.before = before


def _link(entry: _Entry) -> None:
    before, after = entry.before, entry.after
    assert before is not None
    before.after = entry
    if after is not None:
        after.before = entry


def explain(history: Sequence[Operation], initial: bytes | None = None) -> str | None:
    """None when the history is linearizable, else how far an order exists. Raises Undecided, and ValueError for equal values."""
    written = [operation.value for operation in history if operation.kind in (Kind.PUT, Kind.SWAP)]
    if len(set(written)) != len(written) or initial in written:
        raise ValueError("two operations write the same value")
    operations = settle(history)
    head = _events(operations)
    done, state, steps = 0, initial, 0
    path: list[tuple[_Entry, bytes | None]] = []
    tried: set[tuple[int, bytes | None]] = set()
    best: tuple[list[int], bytes | None, Operation | None] = ([], initial, None)
    at = head.after
    while at is not None:
        steps += 1
        if steps > STEPS_MAX:
            raise Undecided(f"{len(operations)} operations, {len(path)} ordered when the search was given up")
        if at.match is not None:
            fits, next_state = apply(state, operations[at.number])
            key = (done | 1 << at.number, next_state)
            if fits and key not in tried:
                tried.add(key)
                path.append((at, state))
                done, state = key
                _unlink(at)
                _unlink(at.match)
                at = head.after
            else:
                at = at.after
            continue
        if operations[at.number].returned is None:
            return None  # only what may never happen is left
        if best[2] is None or len(path) > len(best[0]):
            best = ([call.number for call, _ in path], state, operations[at.number])
        if not path:
            return _describe(operations, best)
        call, state = path.pop()
        done ^= 1 << call.number
        assert call.match is not None
        _link(call.match)
        _link(call)
        at = call.after
    return None


def _describe(operations: list[Operation], best: tuple[list[int], bytes | None, Operation | None]) -> str:
    ordered, state, stuck = best
    assert stuck is not None
    assert stuck.returned is not None
    shown = [str(operations[number]) for number in ordered[-6:]]
    left = [op for number, op in enumerate(operations) if number not in set(ordered) and op.called <= stuck.returned]
    lines = [f"no order of the {len(operations)} operations fits; the longest has {len(ordered)}, ending with", *shown]
    lines += [f"then the register holds {state!r}, and none of these can come next:", *(str(op) for op in left)]
    return "\n  ".join(lines)
