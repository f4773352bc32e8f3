"""`python -m tests.sim --seeds N --start S`: run the simulations for many seeds; a failing one is named and told."""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from dataclasses import replace

import structlog

from tests.sim import bank_sim, divergence, overlap, pd_sim, raft_sim, sql_sim, stale_sim
from tests.sim.world import Options, SeedFailed

WORKLOADS = {
    "raft": (raft_sim.simulate, Options()),
    "raft-short": (raft_sim.simulate, raft_sim.SHORT),
    "raft-leases": (raft_sim.simulate, raft_sim.LEASES),
    "raft-pauses": (raft_sim.simulate, raft_sim.PAUSES),
    "raft-snapshots": (raft_sim.simulate, raft_sim.SNAPSHOTS),
    "raft-laggards": (raft_sim.simulate, raft_sim.LAGGARDS),
    "core-divergence": (divergence.simulate, divergence.OPTIONS),
    "core-overlap": (overlap.simulate, overlap.OPTIONS),
    "pd": (pd_sim.simulate, pd_sim.OPTIONS),
    "bank": (bank_sim.simulate, Options()),
    "sql": (sql_sim.simulate, Options()),
    "stale": (stale_sim.simulate, Options()),
}


def main() -> int:
    """Run the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--workload", choices=[*WORKLOADS, "all"], default="all")
    parser.add_argument("--keep-going", action="store_true", help="name all failing seeds")
    parser.add_argument("--trace", action="store_true", help="print every event")
    parser.add_argument("--log", action="store_true", help="show the servers' logs and where a failure was raised")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if not options.log:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    failed = 0
    for seed in range(options.start, options.start + options.seeds):
        for name, (simulate, size) in WORKLOADS.items():
            if options.workload not in (name, "all"):
                continue
            try:
                outcome = simulate(seed, replace(size, echo=options.trace, name=name))
            except SeedFailed as error:
                if options.log:
                    traceback.print_exception(error.cause)
                print(error.told(with_trace=not options.trace), flush=True)
                failed += 1
                if not options.keep_going:
                    return 1
                continue
            checks = ", ".join(f"{count} {what}" for what, count in outcome.checks.items())
            print(
                f"{name} seed {seed}: {outcome.writes} writes, {outcome.reads} reads, {len(outcome.faults)} faults,"
                f" {checks}, trace {outcome.trace_hash[:16]}",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
