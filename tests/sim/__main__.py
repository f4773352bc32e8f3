"""`python -m tests.sim --seeds N --start S`: run the storage simulations for many seeds; a failing one is named."""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings

import structlog

from tests.sim import bank_sim, sql_sim, stale_sim, storage_sim

WORKLOADS = {
    "raw": storage_sim.simulate,
    "bank": bank_sim.simulate,
    "sql": sql_sim.simulate,
    "stale": stale_sim.simulate,
}


def main() -> int:
    """Run the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--workload", choices=[*WORKLOADS, "all"], default="all")
    parser.add_argument("--keep-going", action="store_true", help="name all failing seeds")
    parser.add_argument("--log", action="store_true", help="show the servers' logs")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if not options.log:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    failed = 0
    for seed in range(options.start, options.start + options.seeds):
        for name, simulate in WORKLOADS.items():
            if options.workload not in (name, "all"):
                continue
            try:
                outcome = simulate(seed)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                traceback.print_exc()
                print(f"{name} seed {seed} failed: {type(error).__name__}: {error}")
                print(f"replay: python -m tests.sim --workload {name} --seeds 1 --start {seed} --log", flush=True)
                failed += 1
                if not options.keep_going:
                    return 1
                continue
            print(
                f"{name} seed {seed}: {outcome.writes} writes, {outcome.reads} reads, {len(outcome.faults)} faults,"
                f" trace {outcome.trace_hash[:16]}",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
