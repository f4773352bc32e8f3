"""Adya's graph of transactions and the cycles in it that an isolation level forbids.

Edges: `ww` (the target wrote the next version), `wr` (the target read it), `rw` (the target overwrote what the source
read), and three orders that are not dependencies: of one process, of real time, of timestamps.

Snapshot isolation allows exactly the cycles in which two `rw` edges follow each other (Fekete; Cerone and Gotsman). So the search
walks a graph of pairs: a transaction, and whether it was reached by an `rw` edge; from such a pair no second `rw` edge
leads on. A cycle of pairs is a forbidden cycle. Cycles come from strongly connected components, the shortest of each.

Names are Elle's: G0 (writes only), G1c (writes and reads), G-single (one `rw`), G-nonadjacent (several, apart), with
the strongest order that was needed as suffix. G2 is a cycle with neighbouring `rw` edges.
"""

from __future__ import annotations

import enum
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

STARTS_MAX = 64
"""Of a component so many members are tried as the start of the shortest cycle."""


class Edge(enum.Enum):
    """Why one transaction comes before another."""

    WW = "ww"
    WR = "wr"
    RW = "rw"
    PROCESS = "process"
    REALTIME = "realtime"
    TIMESTAMP = "timestamp"


Phase = tuple[int, bool]
"""A transaction, and whether the last edge was `rw`."""


@dataclass(frozen=True, slots=True)
class Step:
    """An edge of a cycle."""

    source: int
    target: int
    edge: Edge
    why: str


class Graph:
    """Transactions are numbers; between two there is at most one edge of a kind, the first that was added."""

    def __init__(self) -> None:
        self._edges: dict[int, dict[int, dict[Edge, str]]] = defaultdict(dict)

    def add(self, source: int, target: int, edge: Edge, why: str) -> None:
        """Add an edge; one from a transaction to itself is none."""
        if source != target:
            self._edges[source].setdefault(target, {}).setdefault(edge, why)

    def has(self, source: int, target: int, edge: Edge) -> bool:
        """Whether there is such an edge."""
        return edge in self._edges.get(source, {}).get(target, {})

    def steps(self, source: int) -> Iterator[Step]:
        """The edges that leave a transaction, dependencies first."""
        for target, kinds in self._edges.get(source, {}).items():
            for edge in Edge:
                if edge in kinds:
                    yield Step(source, target, edge, kinds[edge])

    def sources(self) -> list[int]:
        """Transactions with edges that leave."""
        return list(self._edges)

    def cycles(self, plain: frozenset[Edge], *, rw: bool, neighbours: bool = False) -> Iterator[list[Step]]:
        """The shortest cycle of each component, over edges of `plain` and, with `rw`, of that kind.

        With `neighbours` two `rw` edges may follow each other.
        """

        def after(phase: Phase) -> Iterator[tuple[Phase, Step]]:
            number, came_by_rw = phase
            for step in self.steps(number):
                if step.edge in plain:
                    yield (step.target, False), step
                elif rw and step.edge is Edge.RW and (neighbours or not came_by_rw):
                    yield (step.target, not neighbours), step

        starts: list[Phase] = [(number, False) for number in self.sources()]
        for component in components(starts, lambda phase: (following for following, _ in after(phase))):
            inside = set(component)
            found = (shortest(start, inside, after) for start in sorted(component)[:STARTS_MAX])
            best = min((cycle for cycle in found if cycle is not None), key=len, default=None)
            if best is not None:
                yield best


def shortest(
    start: Phase, inside: set[Phase], after: Callable[[Phase], Iterator[tuple[Phase, Step]]]
) -> list[Step] | None:
    """The shortest way from a pair back to itself, inside a component."""
    came: dict[Phase, tuple[Phase, Step]] = {}
    waiting = deque([start])
    while waiting:
        at = waiting.popleft()
        for target, step in after(at):
            if target == start:
                path = [step]
                while at != start:
                    at, step = came[at]
                    path.append(step)
                return path[::-1]
            if target in inside and target not in came:
                came[target] = (at, step)
                waiting.append(target)
    return None


def components(nodes: Iterable[Phase], after: Callable[[Phase], Iterator[Phase]]) -> Iterator[list[Phase]]:
    """Strongly connected components of more than one node (Tarjan, without recursion)."""
    index: dict[Phase, int] = {}
    low: dict[Phase, int] = {}
    stack: list[Phase] = []
    on_stack: set[Phase] = set()
    for root in nodes:
        if root in index:
            continue
        work = [(root, after(root))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, after(target)))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component: list[Phase] = []
                    while not component or component[-1] != node:
                        component.append(stack.pop())
                        on_stack.remove(component[-1])
                    if len(component) > 1:
                        yield component


def name_of(cycle: list[Step]) -> str:
    """What the field calls it."""
    kinds = [step.edge for step in cycle]
    anti = kinds.count(Edge.RW)
    if anti == 0:
        name = "G1c" if Edge.WR in kinds else "G0" if Edge.WW in kinds else "contradicting-orders"
    elif any(one is two is Edge.RW for one, two in zip(kinds, kinds[1:] + kinds[:1], strict=True)) and len(kinds) > 1:
        name = "G2"
    else:
        name = "G-single" if anti == 1 else "G-nonadjacent"
    orders = (Edge.TIMESTAMP, Edge.REALTIME, Edge.PROCESS)
    return name + next((f"-{order.value}" for order in orders if order in kinds), "")


def interval_order(
    intervals: Iterable[tuple[int, tuple[float, ...], tuple[float, ...] | None]],
) -> Iterator[tuple[int, int]]:
    """Pairs (one, other): `one` ended before `other` began. Pairs that follow from two others are left out.

    An interval is (number, start, end); an end of None never comes. Bounds compare as tuples, so that ties can be ordered.
    """
    events: list[tuple[tuple[float, ...], int, int]] = []
    for number, start, end in intervals:
        events.append((start, 0, number))
        if end is not None:
            events.append((end, 1, number))
    newest: set[int] = set()  # ended, and not before the begin of another one that ended
    begun_after: dict[int, frozenset[int]] = {}
    for _bound, ends, number in sorted(events):
        if not ends:
            begun_after[number] = frozenset(newest)
            for other in sorted(newest):
                yield other, number
        else:
            newest -= begun_after.pop(number)
            newest.add(number)
