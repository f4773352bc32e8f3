"""Transfers between accounts: no snapshot may show money that appears or vanishes, no acknowledged transfer may be lost.

Operations: `open` with the list of opening balances; `transfer` with `{"id", "source", "target", "amount"}`, which also
leaves a record; `read` with the list of all balances; `final` with `{"balances", "transfers"}`, the balances and the
records `[id, source, target, amount]`.

Where timestamps are known more is checked than the total: the balances at a timestamp must be those of the transfers
committed until then. Transfers of unknown outcome that are in the final records may have been committed at any time; so
the difference must be what some of them make. Above `UNKNOWN_MAX` of them only totals are checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from tests.support.checkers.history import Anomaly, Operation, Outcome, Verdict, indent, verdict_of

UNKNOWN_MAX = 10


def check(history: Sequence[Operation]) -> Verdict:
    """The verdict on a history of a bank."""
    opened = next((one.value for one in history if one.kind == "open" and one.ok), None)
    final = next((one for one in reversed(history) if one.kind == "final" and one.ok), None)
    if opened is None or final is None:
        return Verdict((Anomaly("no-final-read", "the accounts were never opened, or never read at the end"),))
    transfers = {one.value["id"]: one for one in history if one.kind == "transfer"}
    anomalies = [*_reads(history, sum(opened)), *_records(transfers, final), *_balances(opened, final)]
    unknown = [transfers[record[0]] for record in final.value["transfers"] if record[0] in transfers]
    unknown = [one for one in unknown if not one.commit_ts]
    if len(unknown) <= UNKNOWN_MAX:
        anomalies += _snapshots(history, opened, list(transfers.values()), unknown)
    return verdict_of(anomalies, [f"{len(unknown)} transfers of unknown outcome took effect"])


def _reads(history: Sequence[Operation], total: int) -> Iterator[Anomaly]:
    for one in history:
        if one.kind in ("read", "final") and one.ok:
            balances = one.value if one.kind == "read" else one.value["balances"]
            if sum(balances) != total:
                yield Anomaly("wrong-total", f"{sum(balances)}, not {total}{indent([one])}")
            if min(balances) < 0:
                yield Anomaly("negative-balance", f"{min(balances)}{indent([one])}")


def _records(transfers: dict[int, Operation], final: Operation) -> Iterator[Anomaly]:
    """What the records at the end say of every transfer."""
    found = {record[0]: record for record in final.value["transfers"]}
    for number, one in transfers.items():
        if one.ok and one.returned < final.called and number not in found:
            yield Anomaly("lost-transfer", f"acknowledged, and not there at the end{indent([one])}")
        if one.outcome is Outcome.FAIL and number in found:
            yield Anomaly("G1a", f"aborted, and there at the end{indent([one])}")
    for number, record in found.items():
        if number not in transfers:
            yield Anomaly("unwritten-transfer", f"{record}")


def _balances(opened: list[int], final: Operation) -> Iterator[Anomaly]:
    expected = list(opened)
    for _, source, target, amount in final.value["transfers"]:
        expected[source] -= amount
        expected[target] += amount
    if expected != final.value["balances"]:
        yield Anomaly("wrong-balances", f"{final.value['balances']}, but the records make {expected}")


def _difference(one: dict[str, Any], size: int) -> list[int]:
    change = [0] * size
    change[one["source"]] -= one["amount"]
    change[one["target"]] += one["amount"]
    return change


def _snapshots(
    history: Sequence[Operation], opened: list[int], transfers: list[Operation], unknown: list[Operation]
) -> Iterator[Anomaly]:
    """The balances at each timestamp against the transfers committed until then."""
    size = len(opened)
    possible = {
        tuple(map(sum, zip([0] * size, *(_difference(one.value, size) for one in some), strict=True)))
        for count in range(len(unknown) + 1)
        for some in combinations(unknown, count)
    }
    committed = sorted((one for one in transfers if one.ok and one.commit_ts), key=lambda one: one.commit_ts)
    balances, done = list(opened), 0
    snapshots = [one for one in history if one.kind == "read" and one.ok and one.start_ts]
    for one in sorted(snapshots, key=lambda one: one.start_ts):
        while done < len(committed) and committed[done].commit_ts <= one.start_ts:
            balances = [old + new for old, new in zip(balances, _difference(committed[done].value, size), strict=True)]
            done += 1
        if tuple(seen - known for seen, known in zip(one.value, balances, strict=True)) not in possible:
            last = committed[max(0, done - 3) : done + 2]
            yield Anomaly(
                "wrong-snapshot",
                f"{one.value} at {one.start_ts}, the commits until then make {balances}{indent([one, *last])}",
            )
