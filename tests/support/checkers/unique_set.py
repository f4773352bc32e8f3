"""A set to which unique elements are added: what was acknowledged is there, and nothing else.

Operations: `add` with the list of elements of one transaction; `read` and `final` with the sorted list of all elements.
Found: `lost-element` (acknowledged, missing at the end), `stale-read` (missing in a read that began after the answer,
or at a later timestamp), `future-read` (seen below its commit timestamp), `vanished-element` (seen, then not), `G1a`
(of a failed transaction), `torn-write` (some elements of a transaction without the others), `unwritten-element`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.support.checkers.history import Anomaly, Operation, Outcome, Verdict, indent, verdict_of


def check(history: Sequence[Operation]) -> Verdict:
    """The verdict on a history of a set."""
    final = next((one for one in reversed(history) if one.kind == "final" and one.ok), None)
    if final is None:
        return Verdict((Anomaly("no-final-read", "the set was never read at the end"),))
    adds = [one for one in history if one.kind == "add"]
    reads = sorted((one for one in history if one.kind in ("read", "final") and one.ok), key=lambda one: one.called)
    owners = {element: one for one in adds for element in one.value}
    anomalies: list[Anomaly] = []
    found = {id(read): set(read.value) for read in reads}
    for read in reads:
        anomalies += _read(read, found[id(read)], adds, owners)
    for earlier in reads:
        later = next((one for one in reads if one.called > earlier.returned), None)
        if later is not None and (gone := found[id(earlier)] - found[id(later)]):
            anomalies.append(Anomaly("vanished-element", f"{sorted(gone)[:5]}{indent([earlier, later])}"))
    took = sum(one.outcome is Outcome.INFO and set(one.value) <= found[id(final)] for one in adds)
    return verdict_of(anomalies, [f"{took} adds of unknown outcome took effect"])


def _read(read: Operation, found: set[int], adds: list[Operation], owners: dict[int, Operation]) -> Iterator[Anomaly]:
    for element in found:
        if element not in owners:
            yield Anomaly("unwritten-element", f"{element}{indent([read])}")
    for one in adds:
        seen = found.intersection(one.value)
        if seen and len(seen) < len(set(one.value)):
            yield Anomaly("torn-write", f"only {sorted(seen)}{indent([one, read])}")
        if seen and one.outcome is Outcome.FAIL:
            yield Anomaly("G1a", f"an aborted transaction was read{indent([one, read])}")
        if seen and one.commit_ts and read.start_ts and one.commit_ts > read.start_ts:
            yield Anomaly("future-read", indent([one, read]).strip())
        if one.ok and not seen:
            in_time = one.returned < read.called
            at_ts = bool(one.commit_ts and read.start_ts) and one.commit_ts <= read.start_ts
            if in_time or at_ts:
                name = "lost-element" if read.kind == "final" else "stale-read"
                yield Anomaly(name, f"{one.value} was acknowledged and is not there{indent([one, read])}")
