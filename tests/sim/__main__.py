"""`python -m tests.sim --seeds N --start S`: run the storage simulation for many seeds; a failing one is named and ends the run."""

from __future__ import annotations

import argparse
import sys
import traceback

import structlog

from tests.sim.storage_sim import simulate


def main() -> int:
    """Run the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--log", action="store_true", help="show the servers' logs")
    options = parser.parse_args()
    if not options.log:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    for seed in range(options.start, options.start + options.seeds):
        try:
            outcome = simulate(seed)
        except BaseException as error:
            traceback.print_exc()
            print(f"seed {seed} failed: {error}\nreplay: make sim SEEDS=1 START={seed} ARGS=--log")
            return 1
        print(
            f"seed {seed}: {outcome.writes} writes, {outcome.reads} reads, {len(outcome.faults)} faults, trace {outcome.trace_hash[:16]}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
