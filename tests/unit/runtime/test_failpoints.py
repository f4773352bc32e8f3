"""The failpoint mechanism: the grammar, what each action does, what is refused."""

from __future__ import annotations

import asyncio
import random

import pytest

from core_py.errors import DbError, InvariantViolation
from core_py.failpoints import (
    FailPointPanic,
    FailPoints,
    InvalidFailPointAction,
    UnknownFailPoint,
    instant,
    waiting,
)
from core_py.sim.loop import run_virtual

CATALOGUE = {"log_write": instant("a log record is written"), "log_sync": waiting("the log is to be synced")}


def points(blocked: list[float] | None = None, seed: int = 1) -> FailPoints:
    record = blocked if blocked is not None else []
    return FailPoints(CATALOGUE, rng=random.Random(seed), block=record.append)


def hits(fail: FailPoints, times: int = 5) -> list[str | None]:
    return [fail.hit("log_write") for _ in range(times)]


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ("off", [None] * 5),
        ("return", [""] * 5),
        ("return(7)", ["7"] * 5),
        ("2*return(x)", ["x", "x", None, None, None]),
        ("1*return(a)->2*return(b)->return(c)", ["a", "b", "b", "c", "c"]),
        ("1*off->return(z)", [None, "z", "z", "z", "z"]),
        ("0*return(x)", [None] * 5),
        ("0%return(x)->return(y)", ["y"] * 5),
        ("100%return((nested))", ["(nested)"] * 5),
        ("1*print(still here)->return", [None, "", "", "", ""]),
        ("yield", [None] * 5),
    ],
)
def test_a_chain_does_the_first_action_that_may_act(actions: str, expected: list[str | None]) -> None:
    fail = points()
    fail.configure("log_write", actions)
    assert hits(fail) == expected


def test_a_probability_is_drawn_from_the_given_randomness() -> None:
    def run(seed: int) -> list[str | None]:
        fail = points(seed=seed)
        fail.configure("log_write", "30%return")
        return hits(fail, 1000)

    assert run(1) == run(1) != run(2)
    assert 250 < sum(one is not None for one in run(1)) < 350


def test_counts_are_not_used_up_by_draws_that_fail() -> None:
    fail = points()
    fail.configure("log_write", "20%3*return")
    assert sum(one is not None for one in hits(fail, 200)) == 3


def test_sleep_and_delay_block_where_the_code_cannot_wait() -> None:
    blocked: list[float] = []
    fail = points(blocked)
    fail.configure("log_write", "1*sleep(250)->1*delay(40)")
    assert hits(fail, 3) == [None] * 3
    assert blocked == [0.25, 0.04]


def test_waiting_places_wait_without_blocking_but_sleep_blocks_them() -> None:
    blocked: list[float] = []
    fail = points(blocked)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        fail.configure("log_sync", "1*delay(1500)->1*sleep(20)->1*yield->return(done)")
        began = loop.time()
        assert await fail.reach("log_sync") is None
        assert loop.time() - began == pytest.approx(1.5)
        assert blocked == []
        assert await fail.reach("log_sync") is None
        assert blocked == [0.02]
        assert await fail.reach("log_sync") is None
        assert await fail.reach("log_sync") == "done"
        assert loop.time() - began == pytest.approx(1.5)

    run_virtual(main())


@pytest.mark.parametrize("how", ["removed", "configured anew"])
def test_a_pause_ends_when_the_point_is(how: str) -> None:
    fail = points()

    async def main() -> None:
        fail.configure("log_sync", "pause")
        async with asyncio.TaskGroup() as group:
            paused = [group.create_task(fail.reach("log_sync")) for _ in range(3)]
            await asyncio.sleep(60)
            assert not any(task.done() for task in paused)
            if how == "removed":
                fail.remove("log_sync")
            else:
                fail.configure("log_sync", "return(too late for those)")
        assert [task.result() for task in paused] == [None] * 3

    run_virtual(main())


def test_a_panic_is_a_broken_invariant_with_the_point_and_the_text() -> None:
    fail = points()
    fail.configure("log_write", "panic(disk on fire)")
    with pytest.raises(FailPointPanic, match="log_write: disk on fire"):
        fail.hit("log_write")
    assert issubclass(FailPointPanic, InvariantViolation)
    assert not issubclass(FailPointPanic, Exception)


def test_armed_is_true_exactly_while_something_is_configured() -> None:
    fail = points()
    assert not fail.armed
    fail.configure_all("log_write=1*return(a); log_sync=off;")
    assert fail.armed
    assert fail.list() == (("log_sync", "off"), ("log_write", "1*return(a)"))
    fail.remove("log_write")
    assert fail.armed
    assert fail.hit("log_write") is None
    fail.remove("log_sync")
    fail.remove("log_sync")
    assert not fail.armed
    assert fail.list() == ()


@pytest.mark.parametrize(
    ("name", "actions", "kind", "says"),
    [
        ("log_wirte", "off", UnknownFailPoint, "near: log_write"),
        ("elsewhere", "off", UnknownFailPoint, "there is no failpoint 'elsewhere'"),
        ("log_write", "explode", InvalidFailPointAction, "'explode'"),
        ("log_write", "", InvalidFailPointAction, "not of the form"),
        ("log_write", "return->", InvalidFailPointAction, "not of the form"),
        ("log_write", "sleep", InvalidFailPointAction, "wants milliseconds"),
        ("log_write", "sleep(soon)", InvalidFailPointAction, "wants milliseconds"),
        ("log_write", "off(1)", InvalidFailPointAction, "takes no argument"),
        ("log_write", "101%return", InvalidFailPointAction, "probability"),
        ("log_write", "-1*return", InvalidFailPointAction, "not of the form"),
        ("log_write", "pause", InvalidFailPointAction, "cannot wait"),
        ("log_write", "off->pause", InvalidFailPointAction, "cannot wait"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    name: str, actions: str, kind: type[DbError], says: str
) -> None:
    fail = points()
    fail.configure("log_write", "return(before)")
    with pytest.raises(kind, match=says):
        fail.configure(name, actions)
    assert fail.list() == (("log_write", "return(before)"),)


def test_nothing_sleeps_where_no_thread_may_be_blocked() -> None:
    fail = FailPoints(CATALOGUE, rng=random.Random(1))
    for name, actions in (("log_write", "sleep(1)"), ("log_write", "delay(1)"), ("log_sync", "sleep(1)")):
        with pytest.raises(InvalidFailPointAction, match="would block"):
            fail.configure(name, actions)
    fail.configure("log_sync", "delay(1)")
    fail.configure("log_write", "yield")
    assert fail.hit("log_write") is None


def test_the_environment_form_names_the_part_it_cannot_read() -> None:
    with pytest.raises(InvalidFailPointAction, match="'log_sync' is not of the form name=actions"):
        points().configure_all("log_write=off;log_sync")
