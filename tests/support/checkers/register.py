"""Registers that are read, written and compared-and-set: every key's history must be linearizable.

The value of an operation is `{"key", "value"}` for `read` and `write`, and `{"key", "expected", "value", "swapped",
"found"}` for `cas`. Values are numbers, None for no value, and every written value is written once in the history. See
`linearizable` for the search.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tests.support.checkers import linearizable
from tests.support.checkers.history import Anomaly, Operation, Outcome, Verdict
from tests.support.checkers.linearizable import Kind

KINDS = {"read": Kind.GET, "write": Kind.PUT, "cas": Kind.SWAP}


def check(history: Sequence[Operation]) -> Verdict:
    """The verdict on a history of registers."""
    keys: dict[int, list[linearizable.Operation]] = defaultdict(list)
    for operation in history:
        if operation.outcome is Outcome.FAIL or (operation.outcome is Outcome.INFO and operation.kind == "read"):
            continue
        keys[operation.value["key"]].append(converted(operation))
    anomalies = []
    for key, operations in sorted(keys.items()):
        try:
            problem = linearizable.explain(operations)
        except linearizable.Undecided as error:
            anomalies.append(Anomaly("undecided", f"key {key}: {error}"))
            continue
        if problem is not None:
            anomalies.append(Anomaly("not-linearizable", f"key {key}: {problem}"))
    return Verdict(tuple(anomalies), (f"{len(keys)} keys, {sum(map(len, keys.values()))} operations",))


def converted(operation: Operation) -> linearizable.Operation:
    """As the search wants it."""
    value = operation.value
    return linearizable.Operation(
        kind=KINDS[operation.kind],
        called=operation.called,
        returned=operation.returned if operation.ok else None,
        value=stored(value["value"]),
        expected=stored(value.get("expected")),
        swapped=value.get("swapped", True) if operation.ok else True,
        found=stored(value.get("found")),
        client=f"process {operation.process}",
    )


def stored(value: int | None) -> bytes | None:
    """The bytes of a number."""
    return None if value is None else b"%d" % value
