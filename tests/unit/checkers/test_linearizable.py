"""The linearizability checker on histories with planted anomalies, on valid ones, and against trying all orders."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from tests.support.checkers import linearizable
from tests.support.checkers.linearizable import Kind, Operation, Undecided, apply, explain


def get(called: float, returned: float, value: bytes | None) -> Operation:
    return Operation(Kind.GET, called, returned, value)


def put(called: float, returned: float | None, value: bytes) -> Operation:
    return Operation(Kind.PUT, called, returned, value)


def delete(called: float, returned: float | None) -> Operation:
    return Operation(Kind.DELETE, called, returned)


def swap(called: float, returned: float | None, expected: bytes | None, value: bytes, found: bytes | None) -> Operation:
    return Operation(Kind.SWAP, called, returned, value, expected, returned is None or found == expected, found)


VALID = {
    "nothing": [],
    "one after the other": [put(0, 1, b"a"), get(2, 3, b"a"), delete(4, 5), get(6, 7, None)],
    "a read during a write may see either": [put(0, 1, b"a"), put(2, 9, b"b"), get(3, 4, b"b"), get(5, 6, b"b")],
    "two writes at once, in either order": [put(0, 5, b"a"), put(0, 5, b"b"), get(6, 7, b"a")],
    "an unknown write takes effect late": [put(0, 1, b"a"), put(2, None, b"b"), get(3, 4, b"a"), get(99, 100, b"b")],
    "an unknown write never happens": [put(0, 1, b"a"), put(2, None, b"b"), get(3, 4, b"a"), get(99, 100, b"a")],
    "an unknown deletion happens late": [put(0, 1, b"a"), delete(2, None), get(3, 4, b"a"), get(99, 100, None)],
    "an unknown deletion never happens": [put(0, 1, b"a"), delete(2, None), get(99, 100, b"a")],
    "swaps that follow each other": [swap(0, 5, None, b"a", None), swap(0, 5, b"a", b"b", b"a"), get(6, 7, b"b")],
    "a refused swap": [put(0, 1, b"a"), swap(2, 3, b"x", b"b", b"a"), get(4, 5, b"a")],
    "unknown swaps that lead to what was seen": [
        put(0, 1, b"a"),
        swap(2, None, b"a", b"b", None),
        swap(2, None, b"b", b"c", None),
        get(8, 9, b"c"),
    ],
    "an unknown swap that was seen": [put(0, 1, b"a"), swap(2, None, b"a", b"b", None), get(8, 9, b"b")],
}
BROKEN = {
    "stale read": [put(0, 1, b"a"), put(2, 3, b"b"), get(4, 5, b"a")],
    "lost write": [put(0, 1, b"a"), get(2, 3, None)],
    "writes in the wrong order": [put(0, 1, b"a"), put(2, 3, b"b"), get(4, 5, b"b"), get(6, 7, b"a")],
    "a read goes back": [put(0, 9, b"a"), get(1, 2, b"a"), get(3, 4, None)],
    "a value from nowhere": [put(0, 1, b"a"), get(2, 3, b"z")],
    "read before it is written": [get(0, 1, b"a"), put(2, 3, b"a")],
    "two swaps of the same value": [put(0, 1, b"a"), swap(2, 5, b"a", b"b", b"a"), swap(2, 5, b"a", b"c", b"a")],
    "an unknown write comes and goes": [put(0, 1, b"a"), put(2, None, b"b"), get(3, 4, b"b"), get(5, 6, b"a")],
    "an unknown swap from a state that never was": [swap(0, None, b"q", b"b", None), get(8, 9, b"b")],
    "an unknown write before its call": [get(0, 1, b"b"), put(2, None, b"b")],
    "a deletion undone": [put(0, 1, b"a"), delete(2, 3), get(4, 5, None), get(6, 7, b"a")],
    "a refused swap that should have happened": [
        put(0, 1, b"a"),
        Operation(Kind.SWAP, 2, 3, b"b", b"a", False, b"a"),
    ],
}


@pytest.mark.parametrize("name", VALID)
def test_valid_histories_are_accepted(name: str) -> None:
    assert explain(VALID[name]) is None


@pytest.mark.parametrize("name", BROKEN)
def test_anomalies_are_found(name: str) -> None:
    assert explain(BROKEN[name]) is not None


def test_the_explanation_names_the_state_and_the_operations_that_do_not_fit() -> None:
    text = explain(BROKEN["stale read"])
    assert text is not None
    assert "holds b'b'" in text
    assert "get b'a'" in text


def test_equal_values_are_refused() -> None:
    with pytest.raises(ValueError, match="same value"):
        explain([put(0, 1, b"a"), put(2, 3, b"a")])


def test_a_search_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linearizable, "STEPS_MAX", 50)
    at_once = [put(0, 10, b"%d" % number) for number in range(12)]
    with pytest.raises(Undecided):
        explain([*at_once, get(11, 12, b"0"), get(13, 14, b"1")])


def all_orders(history: list[Operation]) -> bool:
    """The definition, tried out: some subset of the unknown operations, some order."""
    unknown = [operation for operation in history if operation.returned is None]
    for count in range(len(unknown) + 1):
        for dropped in itertools.combinations(unknown, count):
            left = [operation for operation in history if operation not in dropped]
            if any(fits(order) for order in itertools.permutations(left)):
                return True
    return False


def fits(order: tuple[Operation, ...]) -> bool:
    state: bytes | None = None
    latest_call = -math.inf
    for operation in order:
        latest_call = max(latest_call, operation.called)
        if operation.returned is not None and operation.returned < latest_call:
            return False
        if operation.returned is None and operation.kind is Kind.SWAP:
            state = operation.value if state == operation.expected else state
            continue
        right, state = apply(state, operation)
        if not right:
            return False
    return True


def random_history(rng: random.Random) -> list[Operation]:
    history = []
    values = [None, b"0", b"1", b"2", b"3"]
    for number in range(rng.randrange(2, 6)):
        called = rng.randrange(12)
        returned = None if rng.random() < 0.25 else called + rng.randrange(1, 6)
        kind = rng.random()
        if kind < 0.4 and returned is not None:
            history.append(get(called, returned, rng.choice(values)))
        elif kind < 0.65:
            history.append(put(called, returned, b"%d" % number))
        elif kind < 0.75:
            history.append(delete(called, returned))
        else:
            found = rng.choice(values) if returned is not None else None
            history.append(swap(called, returned, rng.choice(values), b"%d" % number, found))
    return history


def test_agrees_with_trying_all_orders() -> None:
    verdicts = {True: 0, False: 0}
    for seed in range(3000):
        history = random_history(random.Random(seed))
        verdict = explain(history) is None
        assert verdict == all_orders(history), f"seed {seed}: {[str(operation) for operation in history]}"
        verdicts[verdict] += 1
    assert min(verdicts.values()) > 300
