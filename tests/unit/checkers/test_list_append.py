"""The judge of list-append histories on histories written by hand: each anomaly by its name, and what is allowed.

`T(...)` is a transaction; `at` are the times of its call and return, by default one after the other. `r1` reads key 1,
`a1` appends to it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from tests.support.checkers.history import Operation, Outcome
from tests.support.checkers.list_append import check

Ops = list[tuple[str, Any]]
_clock = count(1)


def T(
    *ops: tuple[str, Any],
    at: tuple[float, float] | None = None,
    ts: tuple[int, int] = (0, 0),
    outcome: Outcome = Outcome.OK,
    process: int | None = None,
) -> Operation:
    now = next(_clock)
    called, returned = at or (now, now + 0.5)
    value = [["r" if what[0] == "r" else "append", int(what[1:]), argument] for what, argument in ops]
    return Operation(process or now, "txn", called, returned, outcome, value, *ts)


def r(key: int, *found: int) -> tuple[str, list[int]]:
    return f"r{key}", list(found)


def a(key: int, element: int) -> tuple[str, int]:
    return f"a{key}", element


TOGETHER = (0.0, 1000.0)
"""Times that order nothing."""
FAIL, INFO = Outcome.FAIL, Outcome.INFO

BROKEN: dict[str, list[Operation]] = {
    "internal": [T(a(1, 1), r(1))],
    "G1a": [T(a(1, 1), outcome=FAIL), T(r(1, 1))],
    "G1b": [T(a(1, 1), a(1, 2), at=TOGETHER), T(r(1, 1), at=TOGETHER)],
    "duplicate-elements": [T(a(1, 1)), T(r(1, 1, 1))],
    "unwritten-element": [T(r(1, 7))],
    "incompatible-order": [
        T(a(1, 1), at=TOGETHER),
        T(a(1, 2), at=TOGETHER),
        T(r(1, 1, 2), at=TOGETHER),
        T(r(1, 2, 1), at=TOGETHER),
    ],
    "lost-update": [T(r(1), a(1, 1), at=TOGETHER), T(r(1), a(1, 2), at=TOGETHER), T(r(1, 2))],
    # Two keys whose versions were written in opposite orders.
    "G0": [
        T(a(1, 1), a(2, 2), at=TOGETHER),
        T(a(1, 3), a(2, 4), at=TOGETHER),
        T(r(1, 1, 3), at=TOGETHER),
        T(r(2, 4, 2), at=TOGETHER),
    ],
    # Each read what the other wrote.
    "G1c": [T(a(1, 1), r(2, 2), at=TOGETHER), T(a(2, 2), r(1, 1), at=TOGETHER)],
    # Read skew: one key before, the other after the same transaction.
    "G-single": [T(a(1, 1), a(2, 2), at=TOGETHER), T(r(1), r(2, 2), at=TOGETHER)],
    # A long fork: two writes seen in opposite orders.
    "G-nonadjacent": [
        T(a(1, 1), at=TOGETHER),
        T(a(2, 2), at=TOGETHER),
        T(r(1, 1), r(2), at=TOGETHER),
        T(r(1), r(2, 2), at=TOGETHER),
    ],
    "G-single-process": [T(a(1, 1), at=(0, 10), process=5), T(r(1), at=(10, 20), process=5), T(r(1, 1), at=TOGETHER)],
    "G-single-realtime": [T(a(1, 1), at=(0, 10)), T(r(1), at=(20, 30)), T(r(1, 1), at=(0, 40))],
    "G1c-realtime": [T(r(1, 1), at=(0, 10)), T(a(1, 1), at=(20, 30))],
    "G0-realtime": [T(a(1, 1), at=(20, 30)), T(a(1, 2), at=(0, 10)), T(r(1, 1, 2), at=(40, 50))],
    "G-single-timestamp": [
        T(a(1, 1), at=TOGETHER, ts=(5, 8)),
        T(r(1), at=TOGETHER, ts=(8, 0)),
        T(r(1, 1), at=TOGETHER),
    ],
    "contradicting-orders-timestamp": [T(a(1, 1), at=(0, 10), ts=(50, 51)), T(a(2, 2), at=(20, 30), ts=(40, 41))],
    "future-read": [T(a(1, 1), at=TOGETHER, ts=(5, 9)), T(r(1, 1), at=TOGETHER, ts=(8, 0))],
    "concurrent-writers": [
        T(a(1, 1), at=TOGETHER, ts=(5, 9)),
        T(a(1, 2), at=TOGETHER, ts=(8, 12)),
        T(r(1, 1, 2), at=TOGETHER, ts=(20, 0)),
    ],
    "commit-before-start": [T(a(1, 1), ts=(9, 9))],
    "duplicate-start-ts": [T(r(1), at=TOGETHER, ts=(9, 0)), T(r(2), at=TOGETHER, ts=(9, 0))],
}
VALID: dict[str, list[Operation]] = {
    "nothing": [],
    "one after the other": [T(a(1, 1)), T(r(1, 1), a(1, 2), r(1, 1, 2)), T(r(1, 1, 2))],
    "an unknown append that never happened": [T(a(1, 1), outcome=INFO), T(r(1))],
    "an unknown append that happened late": [T(a(1, 1), outcome=INFO), T(r(1)), T(r(1, 1))],
    "an unknown append counts for nothing when unseen": [T(r(2, 5), a(1, 1), outcome=INFO), T(r(1))],
    "a failed transaction read what it liked": [T(a(1, 1)), T(r(1), a(1, 2), outcome=FAIL), T(r(1, 1))],
    "two reads during a write": [T(a(1, 1), at=(0, 100)), T(r(1), at=(10, 20)), T(r(1, 1), at=(30, 40))],
    "write skew": [T(r(1), a(2, 2), at=TOGETHER), T(r(2), a(1, 1), at=TOGETHER), T(r(1, 1), r(2, 2))],
    "a commit at the reader's own timestamp is seen": [
        T(a(1, 1), at=TOGETHER, ts=(5, 8)),
        T(r(1, 1), at=TOGETHER, ts=(8, 0)),
    ],
    "appends that only their writer read": [T(r(1), a(1, 1), r(1, 1), at=(0, 1)), T(r(2), at=(0, 9))],
    "pessimistic transactions may share a timestamp": [
        replace(T(r(1), at=TOGETHER, ts=(9, 0)), mode="pessimistic"),
        T(r(2), at=TOGETHER, ts=(9, 0)),
    ],
    "a late append comes last": [T(a(1, 1), at=TOGETHER), T(a(1, 2), at=TOGETHER), T(r(1, 2), at=(0, 5))],
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_anomaly_is_found_and_named(name: str) -> None:
    verdict = check(BROKEN[name])
    assert name in verdict.names(), str(verdict)


@pytest.mark.parametrize("name", VALID)
def test_what_is_allowed_is_not_reported(name: str) -> None:
    verdict = check(VALID[name])
    assert verdict.valid, str(verdict)


def test_write_skew_is_a_note_with_its_story() -> None:
    verdict = check(VALID["write skew"])
    told = "\n".join(verdict.notes)
    assert "G2 (write skew)" in told
    assert "T1 -rw-> T2" in told
    assert "T2 -rw-> T1" in told


def test_a_story_is_the_smallest_cycle() -> None:
    noise = [T(a(9, 100 + number), at=TOGETHER) for number in range(50)]
    chain = [T(a(1, 1), a(2, 2), at=TOGETHER), T(r(2, 2), a(3, 3), at=TOGETHER), T(r(3, 3), r(1), at=TOGETHER)]
    short = [T(a(5, 5), a(6, 6), at=TOGETHER), T(r(5), r(6, 6), at=TOGETHER)]
    told = {anomaly.story.split("\n")[0] for anomaly in check([*noise, *chain, *short]).anomalies}
    assert told == {"a cycle of 3 transactions", "a cycle of 2 transactions"}


def test_repeated_stories_are_counted() -> None:
    verdict = check([T(r(number, 1000 + number)) for number in range(10)])
    assert len(verdict.anomalies) == 4
    assert "10 times unwritten-element" in verdict.notes
