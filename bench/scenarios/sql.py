"""Point selects by sysbench, and an aggregation over 300,000 rows, beside MariaDB in the same run.

sysbench drives both servers alike (text protocol, tables of its own making); the aggregation is run through PyMySQL,
warm, and the best of a few runs counts, because it is one client's latency that is asked for.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from typing import Any

import pymysql

from bench.load import Result
from bench.peers import mariadb
from tidb_py.testing.playground import playground

THREADS = (1, 8, 16)
SECONDS = 8
TABLE_ROWS = 10_000
AGGREGATE_ROWS = 300_000
AGGREGATE = "SELECT g, COUNT(*), SUM(v), AVG(v), MAX(v) FROM bench_agg.t WHERE v % 7 <> 3 GROUP BY g ORDER BY g"
RUNS = 7


def _sysbench(port: int, user: str, threads: int, command: str) -> str:
    arguments = [
        "sysbench",
        "oltp_point_select",
        *("--mysql-host=127.0.0.1", f"--mysql-port={port}", f"--mysql-user={user}", "--mysql-db=sbtest"),
        *(f"--table-size={TABLE_ROWS}", "--tables=1", f"--threads={threads}", f"--time={SECONDS}"),
        *("--db-ps-mode=disable", "--mysql-ssl=off", "--percentile=99", "--report-interval=0"),
        command,
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"sysbench {command} failed: {(done.stdout + done.stderr)[-600:]}")
    return done.stdout


def _point_select(system: str, port: int, user: str) -> list[Result]:
    _sysbench(port, user, 1, "prepare")
    rows = []
    for threads in THREADS:
        text = _sysbench(port, user, threads, "run")
        queries = int(_figure(text, r"queries performed:.*?total:\s+(\d+)"))
        average, percentile = _figure(text, r"avg:\s+([\d.]+)"), _figure(text, r"99th percentile:\s+([\d.]+)")
        seconds = _figure(text, r"total time:\s+([\d.]+)s")
        rows.append(
            Result(system, "point select (p50 column: mean)", threads, queries, queries / seconds, average, percentile)
        )
    return rows


def _figure(text: str, pattern: str) -> float:
    match = re.search(pattern, text, re.DOTALL)
    if match is None:
        raise RuntimeError(f"sysbench printed nothing like {pattern}")
    return float(match[1])


def _aggregate(system: str, port: int, user: str) -> list[Result]:
    connection: pymysql.Connection[Any] = pymysql.connect(host="127.0.0.1", port=port, user=user, autocommit=True)
    with connection, connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS bench_agg")
        cursor.execute("CREATE DATABASE bench_agg")
        cursor.execute(
            "CREATE TABLE bench_agg.t (id INT PRIMARY KEY, g INT NOT NULL, v INT NOT NULL, s VARCHAR(32) NOT NULL)"
        )
        for start in range(0, AGGREGATE_ROWS, 2_000):
            values = ", ".join(
                f"({i}, {i % 97}, {i * 7919 % 10007}, 'payload {i}')" for i in range(start, start + 2_000)
            )
            cursor.execute(f"INSERT INTO bench_agg.t VALUES {values}")
        latencies = []
        for _ in range(RUNS):
            began = time.perf_counter()
            cursor.execute(AGGREGATE)
            answer = cursor.fetchall()
            latencies.append(time.perf_counter() - began)
            if len(answer) != 97:
                raise RuntimeError(f"{len(answer)} groups came, 97 were wanted")
    best, middle = min(latencies), sorted(latencies)[RUNS // 2]
    workload = f"aggregate {AGGREGATE_ROWS:,} rows (p50: median, p99: worst of {RUNS})"
    return [Result(system, workload, 1, RUNS, 1 / best, middle * 1000, max(latencies) * 1000)]


def _measure(system: str, port: int, user: str, *, points: bool) -> list[Result]:
    rows = _point_select(system, port, user) if points else []
    return rows + _aggregate(system, port, user)


def run(_operations: int) -> tuple[list[Result], list[str]]:
    """(rows, notes)."""
    notes = ["three durable replicas here, one server with its default durability there"]
    has_sysbench = shutil.which("sysbench") is not None
    if not has_sysbench:
        notes.append("sysbench is not installed (Debian: sysbench): point selects skipped")
    with playground() as cluster:
        with pymysql.connect(host=cluster.mysql_host, port=cluster.mysql_port, user="root") as connection:
            connection.cursor().execute("CREATE DATABASE IF NOT EXISTS sbtest")
        rows = _measure("tidb-py", cluster.mysql_port, "root", points=has_sysbench)
    peer = mariadb.version()
    if peer is None:
        return rows, [*notes, "MariaDB is not installed (Debian: mariadb-server): skipped"]
    notes.append(f"peer: {peer}")
    with mariadb.server() as port:
        rows += _measure("MariaDB", port, "bench", points=has_sysbench)
    return rows, notes
