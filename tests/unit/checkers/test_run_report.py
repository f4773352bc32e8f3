"""What a chaos run makes of its history: figures, and failures of runs that show nothing."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.nemesis import Fault
from tests.chaos.runner import Plan, Report, judge
from tests.support.checkers.history import Operation, Outcome

PLAN = Plan("long-fork", ("kill",), seconds=10.0, seed=1)
FAULTS = (Fault("kill store1", 3.0, 5.0),)


def reads(*times: float, outcome: Outcome = Outcome.OK) -> list[Operation]:
    """Operations that begin at a time and are answered at once."""
    return [Operation(1, "read", at, at, outcome, [0, []]) for at in times]


def report_on(operations: list[Operation]) -> Report:
    return judge(PLAN, operations, FAULTS, (0.0, 5.0), Path("history"), [])


def busy(begin: int, end: int) -> list[Operation]:
    """Ten operations a second."""
    return reads(*(tenth / 10 for tenth in range(begin * 10, end * 10)))


def test_the_longest_outage_and_the_recovery() -> None:
    report = report_on(busy(0, 3) + busy(7, 10))
    assert report.passed
    assert round(report.longest_outage, 1) == 4.1
    assert report.outage_begun == 2.9
    assert report.recovery == 2.0
    assert "3.0 ..   5.0 s  kill store1" in str(report)


def test_only_operations_that_began_after_the_heal_show_recovery() -> None:
    late = Operation(1, "read", 4.0, 6.0, Outcome.OK, [0, []])
    assert report_on([*busy(0, 3), late, *busy(8, 12)]).recovery == 3.0


def test_a_run_with_too_little_traffic_fails() -> None:
    report = report_on(busy(0, 3) + reads(6.0))
    assert not report.passed
    assert any("only 31 operations" in failure for failure in report.failures)


def test_a_cluster_that_does_not_come_back_fails_the_run() -> None:
    for after in (reads(), reads(26.0), reads(*range(6, 12), outcome=Outcome.FAIL)):
        report = report_on(busy(0, 5) + after)
        assert not report.passed
        assert any("within 20.0 s of the last heal" in failure for failure in report.failures)


def test_an_anomaly_fails_the_run() -> None:
    report = report_on([*busy(0, 10), Operation(1, "read", 9.0, 9.5, Outcome.OK, [0, [7]])])
    assert "unwritten-key" in report.verdict.names()
    assert not report.passed
