"""The wait-for graph on small cases by name; the random ones are in tests/property/test_wait_for_graph.py."""

from __future__ import annotations

from tikv_py.deadlock.wait_for_graph import Cycle, Wait, WaitForGraph


def edges(cycle: Cycle) -> list[tuple[int, int, bytes]]:
    return [(wait.txn, wait.wait_for_txn, wait.key) for wait in cycle.chain]


def wait(txn: int, holder: int, key: bytes) -> Wait:
    return Wait(txn, holder, hash(key), key, b"tag of %d" % txn)


def test_the_wait_that_closes_a_cycle_is_refused_with_the_whole_chain() -> None:
    graph = WaitForGraph(3.0)
    assert graph.detect(wait(1, 2, b"b"), 0) == []
    assert graph.detect(wait(2, 3, b"c"), 0) == []
    (cycle,) = graph.detect(wait(3, 1, b"a"), 0)
    assert edges(cycle) == [(1, 2, b"b"), (2, 3, b"c"), (3, 1, b"a")]
    assert cycle.closed_by.key == b"c"
    assert cycle.closing.resource_group_tag == b"tag of 3"
    assert len(graph) == 2


def test_the_shortest_cycle_is_told() -> None:
    graph = WaitForGraph(3.0)
    for txn, holder, key in ((1, 2, b"b"), (2, 3, b"c"), (1, 3, b"d")):
        assert graph.detect(wait(txn, holder, key), 0) == []
    (cycle,) = graph.detect(wait(3, 1, b"a"), 0)
    assert edges(cycle) == [(1, 3, b"d"), (3, 1, b"a")]


def test_a_wait_that_ended_or_expired_closes_nothing() -> None:
    graph = WaitForGraph(3.0)
    graph.detect(wait(1, 2, b"b"), 0)
    graph.clean_up_wait_for(1, hash(b"b"))
    assert graph.detect(wait(2, 1, b"a"), 0) == []
    graph.clean_up(2)
    assert len(graph) == 0
    graph.detect(wait(1, 2, b"b"), 10)
    assert graph.detect(wait(2, 1, b"a"), 13) == []
    assert [edge.txn for edge in graph.waits()] == [2]


def test_a_wait_reported_again_lives_on() -> None:
    graph = WaitForGraph(3.0)
    graph.detect(wait(1, 2, b"b"), 0)
    graph.detect(wait(1, 2, b"b"), 2)
    assert len(graph.detect(wait(2, 1, b"a"), 4)) == 1


def test_the_next_holder_of_a_key_is_waited_for_by_all_its_waiters() -> None:
    graph = WaitForGraph(3.0)
    for txn in (1, 2, 3):
        assert graph.detect(wait(txn, 9, b"hot"), 0) == []
    assert graph.detect(wait(4, 2, b"x"), 0) == []
    (cycle,) = graph.replace_holder(hash(b"hot"), 4, 0)
    assert edges(cycle) == [(4, 2, b"x"), (2, 4, b"hot")]
    assert {edge.txn: edge.wait_for_txn for edge in graph.waits()} == {1: 4, 3: 4, 4: 2}
    assert graph.replace_holder(hash(b"hot"), 0, 0) == []
    assert graph.detect(wait(9, 1, b"y"), 0) == []


def test_waits_beyond_the_limit_are_checked_and_not_kept() -> None:
    graph = WaitForGraph(3.0, waits_max=1)
    graph.detect(wait(1, 2, b"b"), 0)
    assert len(graph.detect(wait(2, 1, b"a"), 0)) == 1
    assert graph.detect(wait(5, 6, b"c"), 0) == []
    assert len(graph) == 1
    assert graph.transactions() == 1
