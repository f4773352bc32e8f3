"""Chaos runs by hand.

    python -m tests.chaos --workload append --nemesis kill,pause,partition,shuffle --seconds 60 --seed 1
    python -m tests.chaos --workload append --check history.jsonl

Prints the verdict, the operations, the faults and the longest outage of each run; the exit status is 1 when one failed.
Needs root and iproute2, for network namespaces. Logs and histories of all runs stay in the directory that is printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos import nemesis, runner
from tests.chaos.cluster import running
from tests.support.checkers.history import read_history
from tests.support.netns import available


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--workload", default="all", help=f"all, or some of {', '.join(runner.WORKLOADS)}")
    parser.add_argument("--nemesis", default=",".join(nemesis.KINDS), help="kinds of faults, or none")
    parser.add_argument("--seconds", type=float, default=60.0, help="of faults, for each workload")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=runner.CLIENTS)
    parser.add_argument("--check", type=Path, help="judge a history again instead of making one")
    parser.add_argument("--directory", type=Path, help="for logs and histories; a new one by default")
    asked = parser.parse_args()
    asked.workloads = list(runner.WORKLOADS) if asked.workload == "all" else asked.workload.split(",")
    asked.kinds = () if asked.nemesis == "none" else tuple(asked.nemesis.split(","))
    for given, known in ((asked.workloads, runner.WORKLOADS), (asked.kinds, nemesis.KINDS)):
        unknown = [one for one in given if one not in known]
        if unknown:
            parser.error(f"{', '.join(unknown)}: there are {', '.join(known)}")
    if asked.check and len(asked.workloads) != 1:
        parser.error("--check needs one --workload")
    return asked


def main() -> int:
    """Run; the exit status."""
    asked = arguments()
    if asked.check:
        verdict = runner.CHECKERS[asked.workloads[0]](read_history(asked.check.read_text().splitlines()))
        print(verdict)
        return 0 if verdict.valid else 1
    reason = available()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    directory = asked.directory or Path(tempfile.mkdtemp(prefix="tidb-py-chaos-"))
    directory.mkdir(parents=True, exist_ok=True)
    passed = True
    with running(directory) as cluster:
        for workload in asked.workloads:
            report = runner.run(cluster, runner.Plan(workload, asked.kinds, asked.seconds, asked.seed, asked.clients))
            print(report, flush=True)
            passed = passed and report.passed
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
