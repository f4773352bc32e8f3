"""`make pd-sim CASE=balance`: run cases, print a table; the exit status says whether all that should hold did.

python -m pd_py.simulator --case all [--stores 100] [--regions 10000] [--seed 1]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from core_py.runtime.clock import SystemClock
from pd_py.simulator.cases import CASES, Outcome, Size

HEADER = (
    "case",
    "to rest",
    "replicas moved",
    "at least",
    "leaders moved",
    "before",
    "after",
    "moved in 10 min",
    "took",
    "",
)


def cells(outcome: Outcome) -> tuple[str, ...]:
    """A run as a row of the table."""
    return (
        outcome.name,
        f"{outcome.rest_s / 60:.1f} min",
        str(outcome.peers_moved),
        str(outcome.least),
        str(outcome.leaders_moved),
        outcome.before,
        outcome.after,
        str(outcome.moved_after),
        f"{outcome.wall_s:.1f} s",
        "FAILED" if outcome.failures else "ok",
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """All runs, as a Markdown table with the failures below."""
    rows = [HEADER, *map(cells, outcomes)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEADER))]

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"

    out = [line(HEADER), "|" + "|".join("-" * (width + 2) for width in widths) + "|"]
    out += [line(row) for row in rows[1:]]
    for outcome in outcomes:
        out += [f"{outcome.name}: {failure}" for failure in outcome.failures]
    return "\n".join(out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pd_py.simulator", description="simulate PD's scheduling")
    parser.add_argument("--case", default="all", choices=["all", *CASES])
    parser.add_argument("--stores", type=int, default=100)
    parser.add_argument("--regions", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.stores < 5 or options.regions < 10:
        parser.error("at least 5 stores and 10 regions are needed")
    size = Size(options.stores, options.regions, options.seed)
    clock, outcomes = SystemClock(), []
    for name in CASES if options.case == "all" else [options.case]:
        began = clock.monotonic()
        outcome = CASES[name].run(size)
        outcome.wall_s = clock.monotonic() - began
        outcomes.append(outcome)
        sys.stderr.write(f"{name}: {'FAILED' if outcome.failures else 'ok'} in {outcome.wall_s:.1f} s\n")
    sys.stdout.write(f"{size.stores} stores, {size.regions} regions, seed {size.seed}\n\n{table(outcomes)}\n")
    return 1 if any(outcome.failures for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
