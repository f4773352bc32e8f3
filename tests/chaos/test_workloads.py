"""Five workloads, one after the other on one cluster, under kills, pauses, partitions and moving leaders; each history is judged.

`python -m tests.chaos` runs them longer, with any seed; docs/architecture/chaos.md tells how to read a verdict.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos import runner
from tests.chaos.cluster import Cluster, running
from tests.chaos.nemesis import KINDS
from tests.support.netns import available

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("processes"), pytest.mark.timeout(400)]

SECONDS = 20.0
SEED = 1


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    reason = available()
    if reason:
        pytest.skip(reason)
    with running(tmp_path_factory.mktemp("chaos")) as started:
        yield started


@pytest.mark.parametrize("workload", runner.WORKLOADS)
def test_nothing_goes_wrong_under_faults(cluster: Cluster, workload: str) -> None:
    report = runner.run(cluster, runner.Plan(workload, KINDS, SECONDS, SEED))
    print(report)
    assert report.passed, str(report)
