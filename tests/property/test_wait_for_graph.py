"""The wait-for graph against a brute-force search for cycles over a plain list of edges."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tikv_py.deadlock.wait_for_graph import Wait, WaitForGraph

TTL_S = 3.0
TXNS, KEYS = st.integers(1, 6), st.integers(1, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), TXNS, TXNS, KEYS),
        st.tuples(st.just("holder"), st.integers(0, 6), st.just(0), KEYS),
        st.tuples(st.just("stop"), TXNS, st.just(0), KEYS),
        st.tuples(st.just("end"), TXNS, st.just(0), st.just(0)),
        st.tuples(st.just("later"), st.integers(1, 4), st.just(0), st.just(0)),
    ),
    max_size=60,
)


class Oracle:
    """(txn, key) -> expiry, and key -> holder; cycles are looked for by following every edge from every transaction."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: dict[tuple[int, int], float] = {}
        self.holders: dict[int, int] = {}

    def expire(self) -> None:
        self.waits = {wait: at for wait, at in self.waits.items() if at > self.now}

    def edges(self) -> set[tuple[int, int]]:
        found = {(txn, self.holders[key]) for txn, key in self.waits}
        return {(txn, holder) for txn, holder in found if txn != holder}

    def is_reachable(self, begin: int, end: int) -> bool:
        seen = {begin}
        for _ in range(len(self.waits) + 1):
            seen |= {holder for txn, holder in self.edges() if txn in seen}
        return end in seen

    def cyclic(self) -> bool:
        return any(self.is_reachable(holder, txn) for txn, holder in self.edges())

    def closing(self, key: int) -> set[int]:
        """Which waiters of a key are on a cycle through its holder."""
        holder = self.holders[key]
        return {txn for txn, k in self.waits if k == key and txn != holder and self.is_reachable(holder, txn)}


def apply(step: tuple[str, int, int, int], graph: WaitForGraph, oracle: Oracle) -> None:
    kind, txn, holder, key = step
    oracle.expire()
    if kind == "later":
        oracle.now += txn / 2
        return
    if kind == "stop":
        graph.clean_up_wait_for(txn, key)
        oracle.waits.pop((txn, key), None)
        return
    if kind == "end":
        graph.clean_up(txn)
        oracle.waits = {wait: at for wait, at in oracle.waits.items() if wait[0] != txn}
        return
    waited = any(k == key for _, k in oracle.waits)
    if kind == "wait":
        cycles = graph.detect(Wait(txn, holder, key), oracle.now)
        oracle.holders[key] = holder
        if txn != holder:
            oracle.waits[txn, key] = oracle.now + TTL_S
        expected = oracle.closing(key)
    else:
        cycles = graph.replace_holder(key, txn, oracle.now)
        if waited:
            oracle.holders[key] = txn
        expected = oracle.closing(key) if waited else set()
    assert {cycle.closing.txn for cycle in cycles} == expected
    for cycle in cycles:
        chain = cycle.chain
        assert all(a.wait_for_txn == b.txn for a, b in zip(chain, [*chain[1:], chain[0]], strict=True))
        assert {(wait.txn, wait.key_hash) for wait in chain} <= oracle.waits.keys()
        assert len({wait.txn for wait in chain}) == len(chain)
    for refused in expected:
        del oracle.waits[refused, key]


@given(STEPS)
@settings(max_examples=400, deadline=None)
def test_every_cycle_is_found_when_it_forms_and_none_is_made_up(steps: list[tuple[str, int, int, int]]) -> None:
    graph, oracle = WaitForGraph(TTL_S), Oracle()
    for step in steps:
        apply(step, graph, oracle)
        assert not oracle.cyclic()
    graph.detect(Wait(99, 98, 97), oracle.now)  # lets it forget what has expired
    oracle.expire()
    known = {(wait.txn, wait.key_hash) for wait in graph.waits()} - {(99, 97)}
    assert known == oracle.waits.keys()
    assert len(graph) == len(known) + 1
