"""`make bench`: run scenarios, print a table and write JSON under bench/out.

    python -m bench [raw] [ycsb] [txn] [locks] [hot_key] [sql] [raftstore] [regions] [heartbeats] [tso] [port_front]
                    [--operations N]

Several scenarios run one after the other, each in a process of its own: grpc.aio does not survive a second event loop.

Results worth keeping go into bench/RESULTS.md with the command line.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from bench.load import Result

SCENARIOS = ("raw", "ycsb", "txn", "locks", "sql", "raftstore", "regions", "heartbeats", "tso", "port_front", "hot_key")
OUT = Path(__file__).parent / "out"


def table(rows: list[Result]) -> str:
    """Markdown, with our throughput as a ratio to each peer's on the same workload."""
    lines = [
        "| workload | in flight | system | ops/s | p50 ms | p99 ms | ratio | client cores | CPU us/op: leader, followers |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    ours = {(row.workload, row.in_flight): row for row in rows if row.system == "tidb-py"}
    for row in sorted(rows, key=lambda row: (row.workload, row.in_flight, row.system != "tidb-py")):
        own = ours.get((row.workload, row.in_flight))
        ratio = "" if row.system == "tidb-py" or own is None else f"{own.per_second / row.per_second:.2f}x"
        figures = f"{row.per_second:,.0f} | {row.p50_ms:.2f} | {row.p99_ms:.2f} | {ratio}"
        client = "" if row.client_cores is None else f"{row.client_cores:.2f}"
        servers = ", ".join(f"{used:.0f}" for used in row.server_cpu_us)
        lines.append(f"| {row.workload} | {row.in_flight} | {row.system} | {figures} | {client} | {servers} |")
    return "\n".join(lines)


def machine() -> str:
    """What this ran on."""
    names = ("grpcio", "protobuf", "rocksdict", "pyarrow", "sqlglot")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, CPython {platform.python_version()}; {versions}"


def main() -> int:
    """Run the chosen scenarios."""
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], default=list(SCENARIOS))
    parser.add_argument("--operations", type=int, default=40_000)
    options = parser.parse_args()
    names = options.scenarios or SCENARIOS
    if len(names) > 1:
        command = [sys.executable, "-m", "bench", "--operations", str(options.operations)]
        return max(subprocess.run([*command, name], check=False).returncode for name in names)
    print(machine())
    OUT.mkdir(exist_ok=True)
    for name in names:
        rows, notes = importlib.import_module(f"bench.scenarios.{name}").run(options.operations)
        print(f"\n## {name}\n\n{table(rows)}")
        for note in notes:
            print(f"- {note}")
        document = {"machine": machine(), "command": sys.argv, "notes": notes, "rows": [row.to_json() for row in rows]}
        (OUT / f"{name}.json").write_text(json.dumps(document, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
