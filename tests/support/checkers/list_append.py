"""Transactions that read lists and append to them: is the history one of snapshot isolation, with the orders of time kept?

The value of an operation is a list of `["r", key, list]` and `["append", key, element]`; every element is appended once
in the whole history. A list tells the order of its versions, so what a transaction read tells which writers came before
and after it (Kingsbury and Alvaro, Elle). What is found, by name:

- in single reads: `internal` (own writes or reads not repeated), `G1a` (an element of a failed transaction), `G1b` (a
  state between two appends of one transaction), `duplicate-elements`, `unwritten-element`, `incompatible-order`;
- in timestamps: `future-read` (a commit after the reader's timestamp was read), `concurrent-writers` (both committed
  though they overlap), `commit-before-start`, `duplicate-start-ts`;
- in the graph: `G0`, `G1c`, `G-single`, `lost-update`, `G-nonadjacent`, each also with an order as suffix. `-realtime`
  means: not so without the times of the operations. `G2` is write skew, which snapshot isolation allows: a note.

Transactions of unknown outcome count when something they appended was read. An acknowledged append that nobody read
comes after all that was read of its key. The timestamp of a transaction is the one at which it read: `for_update_ts` of
one that locked what it read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from tests.support.checkers.dependency_graph import Edge, Graph, Step, interval_order, name_of
from tests.support.checkers.history import Anomaly, Operation, Outcome, Verdict, indent, verdict_of

DEPENDENCIES = frozenset({Edge.WW, Edge.WR})
STAGES = (
    (frozenset({Edge.WW}), False),
    (DEPENDENCIES, False),
    (DEPENDENCIES, True),
    (DEPENDENCIES | {Edge.PROCESS}, True),
    (DEPENDENCIES | {Edge.PROCESS, Edge.REALTIME}, True),
    (DEPENDENCIES | {Edge.PROCESS, Edge.REALTIME, Edge.TIMESTAMP}, True),
)
"""What is searched for cycles, from little to much, so that a cycle gets the name that says most."""


def check(history: Sequence[Operation]) -> Verdict:
    """The verdict on a history of transactions."""
    checker = _Checker(history)
    anomalies = [*checker.single_reads(), *checker.lost_updates(), *checker.orders(), *checker.timestamps()]
    checker.connect()
    anomalies += checker.cycles()
    return verdict_of(anomalies, checker.notes())


def reads(operation: Operation) -> Iterator[tuple[int, list[int]]]:
    """The keys a transaction read, with what it saw."""
    return ((key, found or []) for what, key, found in operation.value if what == "r")


def appends(operation: Operation) -> Iterator[tuple[int, int]]:
    """The keys a transaction appended to, with the elements."""
    return ((key, element) for what, key, element in operation.value if what == "append")


class _Checker:
    def __init__(self, history: Sequence[Operation]) -> None:
        self.history = history
        self.writer = {element: number for number, one in enumerate(history) for _, element in appends(one)}
        self.own: dict[tuple[int, int], list[int]] = defaultdict(list)
        for number, one in enumerate(history):
            for key, element in appends(one):
                self.own[number, key].append(element)
        seen = {element for one in history if one.ok for _, found in reads(one) for element in found}
        self.happened = [
            number
            for number, one in enumerate(history)
            if one.ok or (one.outcome is Outcome.INFO and any(element in seen for _, element in appends(one)))
        ]
        self.readers = [number for number in self.happened if history[number].ok]
        self.longest: dict[int, list[int]] = {}
        self.broken: set[int] = set()
        """Keys without one order of versions; no edges come from them."""
        self.seen = seen
        self.graph = Graph()

    def _external(self, number: int) -> Iterator[tuple[int, list[int]]]:
        """What a transaction read of others: its lists without its own elements at the end."""
        for key, found in reads(self.history[number]):
            own = set(self.own.get((number, key), ()))
            end = len(found)
            while end and found[end - 1] in own:
                end -= 1
            yield key, found[:end]

    # ---- single reads ---------------------------------------------------------------------------------------

    def single_reads(self) -> Iterator[Anomaly]:
        """What one transaction shows alone, or with one writer."""
        for number in self.readers:
            operation = self.history[number]
            yield from self._internal(operation)
            for key, found in reads(operation):
                if len(set(found)) != len(found):
                    self.broken.add(key)
                    yield Anomaly("duplicate-elements", f"key {key}{indent([operation])}")
            for key, found in self._external(number):
                yield from self._elements(number, key, found)

    def _internal(self, operation: Operation) -> Iterator[Anomaly]:
        known: dict[int, list[int]] = {}
        appended: dict[int, list[int]] = defaultdict(list)
        for what, key, argument in operation.value:
            if what == "append":
                appended[key].append(argument)
                if key in known:
                    known[key] = [*known[key], argument]
                continue
            found = argument or []
            tail = appended[key]
            if found != known.get(key, found) or found[len(found) - len(tail) :] != tail:
                yield Anomaly(
                    "internal",
                    f"a read of key {key} does not fit what was read and written before{indent([operation])}",
                )
            known[key] = found

    def _elements(self, number: int, key: int, found: list[int]) -> Iterator[Anomaly]:
        operation = self.history[number]
        for element in found:
            source = self.writer.get(element)
            if source is None:
                yield Anomaly("unwritten-element", f"element {element} of key {key}{indent([operation])}")
            elif self.history[source].outcome is Outcome.FAIL:
                story = [self.history[source], operation]
                yield Anomaly("G1a", f"element {element} of key {key} was aborted and read{indent(story)}")
        last = self.writer.get(found[-1]) if found else None
        if last is not None and last != number and self.own[last, key][-1] != found[-1]:
            story = [self.history[last], operation]
            yield Anomaly("G1b", f"element {found[-1]} of key {key} was not its writer's last{indent(story)}")

    def lost_updates(self) -> Iterator[Anomaly]:
        """Two acknowledged transactions that read the same version of a key and appended to it."""
        first: dict[tuple[int, tuple[int, ...]], int] = {}
        for number in self.readers:
            for key, found in self._external(number):
                if self.own.get((number, key)):
                    other = first.setdefault((key, tuple(found)), number)
                    if other != number:
                        story = [self.history[other], self.history[number]]
                        yield Anomaly(
                            "lost-update", f"both read this version of key {key} and appended to it{indent(story)}"
                        )

    # ---- versions -------------------------------------------------------------------------------------------

    def orders(self) -> Iterator[Anomaly]:
        """The order of each key's versions: the longest list that was read. All others must begin it."""
        witness: dict[int, int] = {}
        for number in self.readers:
            for key, found in self._external(number):
                if key not in witness or len(found) > len(self.longest[key]):
                    self.longest[key], witness[key] = found, number
        for number in self.readers:
            for key, found in self._external(number):
                if key not in self.broken and found != self.longest[key][: len(found)]:
                    self.broken.add(key)
                    story = [self.history[witness[key]], self.history[number]]
                    yield Anomaly("incompatible-order", f"two reads of key {key}{indent(story)}")
        # What only its writer has read follows the longest list that others have read.
        for number in self.readers:
            for key, found in reads(self.history[number]):
                known = self.longest[key]
                if key not in self.broken and len(found) > len(known) and found[: len(known)] == known:
                    self.longest[key] = found

    # ---- timestamps -----------------------------------------------------------------------------------------

    def timestamps(self) -> Iterator[Anomaly]:
        """What timestamps show of single transactions."""
        first: dict[int, Operation] = {}
        for number in self.happened:
            operation = self.history[number]
            if not operation.start_ts:
                continue
            if "pessimistic" not in operation.mode:  # that may lock at the timestamp of the commit it met
                if operation.start_ts in first:
                    yield Anomaly("duplicate-start-ts", indent([first[operation.start_ts], operation]).strip())
                first[operation.start_ts] = operation
            if operation.commit_ts and operation.commit_ts <= operation.start_ts:
                yield Anomaly("commit-before-start", str(operation))

    def _check_interference(self) -> Iterator[Anomaly]:
        """Adya's G-SIa: who reads or overwrites a transaction starts after its commit."""
        for source in self.graph.sources():
            one = self.history[source]
            for step in self.graph.steps(source):
                other = self.history[step.target]
                if step.edge in DEPENDENCIES and one.commit_ts and other.start_ts and one.commit_ts > other.start_ts:
                    name = "future-read" if step.edge is Edge.WR else "concurrent-writers"
                    yield Anomaly(name, f"{step.why}{indent([one, other])}")

    # ---- graph ----------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """All edges."""
        for key, order in self.longest.items():
            if key not in self.broken:
                self._write_edges(key, order)
        self._unobserved_edges()
        for number in self.readers:
            for key, found in self._external(number):
                if key not in self.broken:
                    self._read_edges(number, key, found)
        self._order_edges()

    def _write_edges(self, key: int, order: list[int]) -> None:
        for one, two in pairwise(order):
            source, target = self.writer.get(one), self.writer.get(two)
            if source is not None and target is not None:
                self.graph.add(source, target, Edge.WW, f"{two} was appended to key {key} next after {one}")

    def _late(self, key: int) -> list[tuple[int, int]]:
        """Acknowledged appends that are not in the longest list: they can only come after it."""
        return self._late_of.get(key, [])

    def _unobserved_edges(self) -> None:
        self._late_of: dict[int, list[tuple[int, int]]] = defaultdict(list)
        inside = {element for order in self.longest.values() for element in order}
        for number in self.readers:
            for key, element in appends(self.history[number]):
                if element not in inside and key not in self.broken:
                    self._late_of[key].append((number, element))
                    order = self.longest.get(key)
                    last = self.writer.get(order[-1]) if order else None
                    if order and last is not None:
                        why = f"{element} was appended to key {key} and is in no list, so it comes after {order[-1]}"
                        self.graph.add(last, number, Edge.WW, why)

    def _read_edges(self, number: int, key: int, found: list[int]) -> None:
        last = self.writer.get(found[-1]) if found else None
        if last is not None:
            self.graph.add(last, number, Edge.WR, f"{found[-1]} was appended to key {key} and read")
        order = self.longest.get(key, [])
        if len(found) < len(order):
            following = self.writer.get(order[len(found)])
            if following is not None:
                self.graph.add(number, following, Edge.RW, f"key {key} was read without {order[len(found)]}")
            return
        for late, element in self._late(key):
            self.graph.add(number, late, Edge.RW, f"key {key} was read without {element}")

    def _order_edges(self) -> None:
        newest: dict[int, int] = {}
        times, stamps = [], []
        for number in sorted(self.happened, key=lambda number: self.history[number].called):
            one = self.history[number]
            if one.process in newest and one.ok:
                self.graph.add(
                    newest[one.process], number, Edge.PROCESS, f"process {one.process} did one after the other"
                )
            if one.ok:
                newest[one.process] = number
            times.append((number, (one.called, 0.0), (one.returned, 1.0) if one.ok else None))
            if one.start_ts and (not one.commit_ts or one.commit_ts > one.start_ts):
                wrote = any(True for _ in appends(one))
                end = (one.commit_ts, 0) if one.commit_ts else None if wrote else (one.start_ts, 2)
                stamps.append((number, (one.start_ts, 1), end))
        for source, target in interval_order(times):
            why = (
                f"returned at {self.history[source].returned:.3f}, before the call at {self.history[target].called:.3f}"
            )
            self.graph.add(source, target, Edge.REALTIME, why)
        for source, target in interval_order(stamps):
            one, two = self.history[source], self.history[target]
            why = f"ended at timestamp {one.commit_ts or one.start_ts}, not after the start at {two.start_ts}"
            self.graph.add(source, target, Edge.TIMESTAMP, why)

    # ---- cycles ---------------------------------------------------------------------------------------------

    def cycles(self) -> Iterator[Anomaly]:
        """Every forbidden cycle that is not told by one with fewer kinds of edges."""
        yield from self._check_interference()
        told: set[frozenset[int]] = set()
        for plain, rw in STAGES:
            for cycle in self.graph.cycles(plain, rw=rw):
                members = frozenset(step.source for step in cycle)
                if not any(members >= known for known in told):
                    told.add(members)
                    yield Anomaly(name_of(cycle), self._story(cycle))

    def _story(self, cycle: list[Step]) -> str:
        names = {step.source: f"T{position}" for position, step in enumerate(cycle, 1)}
        lines = [f"{names[step.source]} {self.history[step.source]}" for step in cycle]
        lines += [f"{names[step.source]} -{step.edge.value}-> {names[step.target]}: {step.why}" for step in cycle]
        return f"a cycle of {len(cycle)} transactions{indent(lines)}"

    def notes(self) -> Iterable[str]:
        """Write skew, if there is some, and what the verdict rests on."""
        done = len(self.readers)
        yield f"{done} acknowledged transactions, {len(self.happened) - done} of unknown outcome that took effect"
        skew = next(
            (cycle for cycle in self.graph.cycles(DEPENDENCIES, rw=True, neighbours=True) if name_of(cycle) == "G2"),
            None,
        )
        if skew is not None:
            yield f"G2 (write skew), which snapshot isolation allows: {self._story(skew)}"
