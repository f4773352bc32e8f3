"""Single keys written once, groups of keys read at once: no two readers may see two writes in opposite orders.

Operations: `write` with `[group, key]`, `read` with `[group, keys that had a value]`. All that one snapshot of a group
shows must contain, or be contained in, what any other shows: otherwise the order of writes has forked (`long-fork`).
The times say more: `stale-read` (a write was acknowledged before the read began), `read-went-back` (an earlier read saw
more), `G1a`, `unwritten-key`, `future-read`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from tests.support.checkers.history import Anomaly, Operation, Outcome, Verdict, indent, verdict_of


def check(history: Sequence[Operation]) -> Verdict:
    """The verdict on a history of groups."""
    writes: dict[int, list[Operation]] = defaultdict(list)
    reads: dict[int, list[Operation]] = defaultdict(list)
    for one in history:
        if one.kind == "write":
            writes[one.value[0]].append(one)
        elif one.ok:
            reads[one.value[0]].append(one)
    anomalies: list[Anomaly] = []
    for group, of_group in sorted(reads.items()):
        anomalies += _forks(of_group)
        anomalies += _backward(of_group)
        for read in of_group:
            anomalies += _read(read, writes[group])
    count = sum(map(len, reads.values()))
    return verdict_of(anomalies, [f"{count} reads of {len(reads)} groups"])


def _forks(reads: list[Operation]) -> Iterator[Anomaly]:
    """Sets by size: each must contain the one before it."""
    ordered = sorted(reads, key=lambda one: len(one.value[1]))
    for one, other in pairwise(ordered):
        left, right = set(one.value[1]), set(other.value[1])
        if not left <= right:
            story = f"one saw {sorted(left - right)} without {sorted(right - left)}, the other the reverse"
            yield Anomaly("long-fork", f"{story}{indent([one, other])}")


def _backward(reads: list[Operation]) -> Iterator[Anomaly]:
    most: Operation | None = None
    ended = sorted(reads, key=lambda one: one.returned)
    position = 0
    for one in sorted(reads, key=lambda one: one.called):
        while position < len(ended) and ended[position].returned < one.called:
            if most is None or len(ended[position].value[1]) > len(most.value[1]):
                most = ended[position]
            position += 1
        if most is not None and set(most.value[1]) > set(one.value[1]):
            yield Anomaly("read-went-back", indent([most, one]).strip())


def _read(read: Operation, writes: list[Operation]) -> Iterator[Anomaly]:
    seen = set(read.value[1])
    for unknown in sorted(seen - {one.value[1] for one in writes}):
        yield Anomaly("unwritten-key", f"key {unknown}{indent([read])}")
    for one in writes:
        if one.value[1] in seen:
            if one.outcome is Outcome.FAIL:
                yield Anomaly("G1a", f"an aborted write was read{indent([one, read])}")
            if one.commit_ts and read.start_ts and one.commit_ts > read.start_ts:
                yield Anomaly("future-read", indent([one, read]).strip())
        elif one.ok:
            at_ts = bool(one.commit_ts and read.start_ts) and one.commit_ts <= read.start_ts
            if one.returned < read.called or at_ts:
                yield Anomaly("stale-read", f"an acknowledged write was not seen{indent([one, read])}")
