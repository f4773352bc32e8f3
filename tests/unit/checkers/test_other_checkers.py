"""The judges of banks, sets, registers and long forks on histories written by hand: each anomaly by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.support.checkers import bank, linearizable, long_fork, register, unique_set
from tests.support.checkers.history import Operation, Outcome, Verdict

Check = Callable[[Sequence[Operation]], Verdict]
FAIL, INFO = Outcome.FAIL, Outcome.INFO


def op(
    kind: str, at: tuple[float, float], value: Any, ts: tuple[int, int] = (0, 0), outcome: Outcome = Outcome.OK
) -> Operation:
    return Operation(1, kind, *at, outcome, value, *ts)


OPEN = op("open", (0, 1), [10, 10])
MOVED = {"id": 1, "source": 0, "target": 1, "amount": 3}


def final(balances: list[int], *records: list[int]) -> Operation:
    return op("final", (90, 91), {"balances": balances, "transfers": list(records)})


def transfer(outcome: Outcome = Outcome.OK, ts: tuple[int, int] = (5, 8)) -> Operation:
    return op("transfer", (2, 3), MOVED, ts if outcome is Outcome.OK else (5, 0), outcome)


def add(
    elements: list[int], at: tuple[float, float] = (0, 1), ts: tuple[int, int] = (0, 0), outcome: Outcome = Outcome.OK
) -> Operation:
    return op("add", at, elements, ts, outcome)


def seen(kind: str, at: tuple[float, float], *elements: int, ts: int = 0) -> Operation:
    return op(kind, at, list(elements), (ts, 0))


def write(
    group: int, key: int, at: tuple[float, float] = (0, 1), ts: tuple[int, int] = (0, 0), outcome: Outcome = Outcome.OK
) -> Operation:
    return op("write", at, [group, key], ts, outcome)


def read(group: int, keys: list[int], at: tuple[float, float] = (0, 50), ts: int = 0) -> Operation:
    return op("read", at, [group, keys], (ts, 0))


def reg(kind: str, at: tuple[float, float], outcome: Outcome = Outcome.OK, **value: Any) -> Operation:
    return op(kind, at, {"key": 0, **value}, outcome=outcome)


DURING = (0.0, 50.0)
RECORD = [1, 0, 1, 3]
BROKEN: list[tuple[Check, str, list[Operation]]] = [
    (bank.check, "no-final-read", [OPEN]),
    (bank.check, "wrong-total", [OPEN, op("read", (2, 3), [10, 13]), final([10, 10])]),
    (bank.check, "wrong-total", [OPEN, op("read", (2, 3), [10]), final([10, 10])]),
    (bank.check, "negative-balance", [OPEN, op("read", (2, 3), [-1, 21]), final([10, 10])]),
    (bank.check, "lost-transfer", [OPEN, transfer(), final([10, 10])]),
    (bank.check, "G1a", [OPEN, transfer(FAIL), final([7, 13], RECORD)]),
    (bank.check, "unwritten-transfer", [OPEN, final([7, 13], RECORD)]),
    (bank.check, "wrong-balances", [OPEN, transfer(), final([8, 12], RECORD)]),
    (bank.check, "wrong-snapshot", [OPEN, transfer(), op("read", (4, 5), [10, 10], (9, 0)), final([7, 13], RECORD)]),
    (bank.check, "wrong-snapshot", [OPEN, transfer(), op("read", (2, 5), [7, 13], (7, 0)), final([7, 13], RECORD)]),
    (unique_set.check, "no-final-read", [add([1])]),
    (unique_set.check, "lost-element", [add([1]), seen("final", (9, 10))]),
    (unique_set.check, "stale-read", [add([1]), seen("read", (2, 3)), seen("final", (9, 10), 1)]),
    (
        unique_set.check,
        "stale-read",
        [add([1], DURING, (5, 8)), seen("read", (0, 3), ts=8), seen("final", (90, 91), 1)],
    ),
    (
        unique_set.check,
        "future-read",
        [add([1], DURING, (5, 8)), seen("read", (0, 3), 1, ts=7), seen("final", (90, 91), 1)],
    ),
    (
        unique_set.check,
        "vanished-element",
        [add([1], DURING), seen("read", (2, 3), 1), seen("read", (4, 5)), seen("final", (90, 91), 1)],
    ),
    (unique_set.check, "G1a", [add([1], outcome=FAIL), seen("final", (9, 10), 1)]),
    (unique_set.check, "torn-write", [add([1, 2], outcome=INFO), seen("final", (9, 10), 2)]),
    (unique_set.check, "unwritten-element", [seen("final", (9, 10), 2)]),
    (long_fork.check, "long-fork", [write(0, 0, DURING), write(0, 1, DURING), read(0, [0]), read(0, [1])]),
    (long_fork.check, "stale-read", [write(0, 0), read(0, [], (2, 3))]),
    (long_fork.check, "stale-read", [write(0, 0, DURING, (5, 8)), read(0, [], ts=8)]),
    (long_fork.check, "future-read", [write(0, 0, DURING, (5, 8)), read(0, [0], ts=7)]),
    (long_fork.check, "read-went-back", [write(0, 0, DURING), read(0, [0], (1, 2)), read(0, [], (3, 4))]),
    (long_fork.check, "G1a", [write(0, 0, outcome=FAIL), read(0, [0])]),
    (long_fork.check, "unwritten-key", [read(0, [0])]),
    (register.check, "not-linearizable", [reg("write", (0, 1), value=1), reg("read", (2, 3), value=None)]),
    (register.check, "not-linearizable", [reg("write", (0, 1), FAIL, value=1), reg("read", (2, 3), value=1)]),
    (
        register.check,
        "not-linearizable",
        [
            reg("write", (0, 1), value=1),
            reg("cas", (2, 9), expected=1, value=2, swapped=True, found=1),
            reg("cas", (2, 9), expected=1, value=3, swapped=True, found=1),
        ],
    ),
]
VALID: list[tuple[Check, list[Operation]]] = [
    (bank.check, [OPEN, final([10, 10])]),
    (
        bank.check,
        [
            OPEN,
            transfer(),
            op("read", (2, 5), [10, 10], (7, 0)),
            op("read", (4, 5), [7, 13], (8, 0)),
            final([7, 13], RECORD),
        ],
    ),
    (bank.check, [OPEN, transfer(INFO), op("read", (4, 5), [10, 10], (9, 0)), final([7, 13], RECORD)]),
    (bank.check, [OPEN, transfer(INFO), final([10, 10])]),
    (unique_set.check, [add([1, 2]), add([3], outcome=INFO), add([4], outcome=FAIL), seen("final", (9, 10), 1, 2)]),
    (unique_set.check, [add([3], outcome=INFO), seen("read", (2, 3)), seen("final", (9, 10), 3)]),
    (
        long_fork.check,
        [write(0, 0, DURING), write(0, 1, DURING), read(0, [0]), read(0, [0, 1]), read(0, []), read(1, [])],
    ),
    (long_fork.check, [write(0, 0, outcome=INFO), read(0, []), read(0, [0])]),
    (
        register.check,
        [reg("write", (0, 1), INFO, value=1), reg("read", (2, 3), value=None), reg("read", (4, 5), value=1)],
    ),
    (
        register.check,
        [
            reg("cas", (0, 1), INFO, expected=None, value=1),
            reg("cas", (2, 3), expected=1, value=2, swapped=True, found=1),
            reg("cas", (4, 5), expected=1, value=3, swapped=False, found=2),
            reg("read", (6, 7), INFO, value=None),
        ],
    ),
]


@pytest.mark.parametrize(("check", "name", "history"), BROKEN)
def test_an_anomaly_is_found_and_named(check: Check, name: str, history: list[Operation]) -> None:
    verdict = check(history)
    assert name in verdict.names(), str(verdict)


@pytest.mark.parametrize(("check", "history"), VALID)
def test_what_is_allowed_is_not_reported(check: Check, history: list[Operation]) -> None:
    verdict = check(history)
    assert verdict.valid, str(verdict)


def test_a_search_that_was_given_up_is_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linearizable, "STEPS_MAX", 3)
    history = [reg("write", (number, number + 0.5), value=number) for number in range(10)]
    assert register.check(history).names() == {"undecided"}
