"""Bank transfers through MySQL clients while processes are killed: the total never changes, no acknowledged transfer is lost.

Real processes, kill -9: a store, then the store that leads the accounts, then the SQL server; each comes back with the command line
it had. A transfer whose commit got no answer may or may not be there; one that was acknowledged must be.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
import pytest

from tidb_py.testing.playground import PlaygroundCluster, playground

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("processes"), pytest.mark.timeout(400)]

ACCOUNTS, OPENING = 24, 100
WORKERS = 4
RESUME_WITHIN_S = 10.0


@dataclass
class Bank:
    """The workload and what it saw."""

    host: str
    port: int
    stop: threading.Event = field(default_factory=threading.Event)
    acknowledged: list[int] = field(default_factory=list)
    totals: set[int] = field(default_factory=set)
    progress: threading.Condition = field(default_factory=threading.Condition)
    next_id: Iterator[int] = field(default_factory=lambda: iter(range(1, 1 << 30)))

    def connect(self) -> pymysql.Connection[Any]:
        return pymysql.connect(
            host=self.host,
            port=self.port,
            user="root",
            database="bank",
            autocommit=False,
            connect_timeout=5,
            read_timeout=30,
        )

    def open(self) -> None:
        connection = pymysql.connect(host=self.host, port=self.port, user="root", autocommit=True)
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE bank")
            cursor.execute("CREATE TABLE bank.accounts (id INT PRIMARY KEY, balance INT NOT NULL)")
            cursor.execute("CREATE TABLE bank.transfers (id INT PRIMARY KEY, source INT, target INT, amount INT)")
            rows = ", ".join(f"({i}, {OPENING})" for i in range(ACCOUNTS))
            cursor.execute(f"INSERT INTO bank.accounts VALUES {rows}")

    def work(self, seed: int) -> None:
        rng = random.Random(seed)
        while not self.stop.is_set():
            with contextlib.suppress(pymysql.MySQLError, OSError), self.connect() as connection:
                while not self.stop.is_set():
                    self.transfer(connection, rng)
            self.stop.wait(0.1)

    def transfer(self, connection: pymysql.Connection[Any], rng: random.Random) -> None:
        source, target = rng.sample(range(ACCOUNTS), 2)
        number, amount = next(self.next_id), rng.randrange(1, 20)
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            low, high = sorted((source, target))
            cursor.execute("SELECT id, balance FROM accounts WHERE id IN (%s, %s) ORDER BY id FOR UPDATE", (low, high))
            balances = dict(cursor.fetchall())
            if balances[source] < amount:
                connection.rollback()
                return
            cursor.execute("UPDATE accounts SET balance = balance - %s WHERE id = %s", (amount, source))
            cursor.execute("UPDATE accounts SET balance = balance + %s WHERE id = %s", (amount, target))
            cursor.execute("INSERT INTO transfers VALUES (%s, %s, %s, %s)", (number, source, target, amount))
            connection.commit()
        with self.progress:
            self.acknowledged.append(number)
            self.progress.notify_all()

    def check(self) -> None:
        while not self.stop.is_set():
            with (
                contextlib.suppress(pymysql.MySQLError, OSError),
                self.connect() as connection,
                connection.cursor() as cursor,
            ):
                while not self.stop.is_set():
                    cursor.execute("SELECT SUM(balance), COUNT(*) FROM accounts")
                    (total, count) = cursor.fetchone() or (0, 0)
                    assert count == ACCOUNTS
                    self.totals.add(int(total))
                    connection.rollback()
                    self.stop.wait(0.05)
            self.stop.wait(0.1)

    def wait_for_more(self, count: int, seconds: float) -> float:
        """Seconds until `count` more transfers are acknowledged. Fails after `seconds`."""
        began = time.monotonic()
        with self.progress:
            wanted = len(self.acknowledged) + count
            assert self.progress.wait_for(lambda: len(self.acknowledged) >= wanted, seconds), (
                f"only {count - (wanted - len(self.acknowledged))} of {count} transfers within {seconds} s"
            )
        return time.monotonic() - began


class Restarts:
    """Kills processes of a playground and starts them again with the command lines they had."""

    def __init__(self, cluster: PlaygroundCluster) -> None:
        self._pids = {role: list(pids) for role, pids in cluster.pids.items()}
        self._started: list[subprocess.Popen[bytes]] = []

    def kill(self, role: str, number: int) -> list[str]:
        """kill -9; returns the command line."""
        pid = self._pids[role][number]
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
        os.kill(pid, signal.SIGKILL)
        return command

    def start(self, role: str, number: int, command: list[str]) -> None:
        """Start what was killed."""
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._started.append(process)
        self._pids[role][number] = process.pid

    def close(self) -> None:
        """End what was started here."""
        for process in reversed(self._started):
            if process.poll() is None:
                process.terminate()
                process.wait(20)


def leader_store(cluster: PlaygroundCluster) -> int:
    """Which store leads most regions."""
    leaders = []
    for number in range(len(cluster.pids["kv"])):
        page = cluster.status[f"tikv-{number}"].replace("/metrics", "/status")
        leaders.append(json.loads(urllib.request.urlopen(page, timeout=5).read())["leaders"])
    return leaders.index(max(leaders))


def test_killed_processes_lose_no_money() -> None:
    with playground() as cluster:
        bank = Bank(cluster.mysql_host, cluster.mysql_port)
        bank.open()
        restarts = Restarts(cluster)
        threads = [threading.Thread(target=bank.work, args=(seed,)) for seed in range(WORKERS)]
        threads.append(threading.Thread(target=bank.check))
        for thread in threads:
            thread.start()
        try:
            bank.wait_for_more(50, 30)
            leader = leader_store(cluster)
            follower = (leader + 1) % 3
            for role, number in (("kv", follower), ("kv", leader), ("db", 0)):
                command = restarts.kill(role, number)
                if role == "db":
                    restarts.start(role, number, command)
                bank.wait_for_more(1, RESUME_WITHIN_S)
                if role == "kv":
                    restarts.start(role, number, command)
                bank.wait_for_more(50, 30)
        finally:
            bank.stop.set()
            for thread in threads:
                thread.join(60)
        try:
            verify(bank)
        finally:
            restarts.close()


def verify(bank: Bank) -> None:
    """At the end: the money is all there, and so is every transfer that was acknowledged."""
    with bank.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT SUM(balance), MIN(balance) FROM accounts")
        total, poorest = cursor.fetchone() or (0, 0)
        cursor.execute("SELECT id, source, target, amount FROM transfers")
        transfers = cursor.fetchall()
        cursor.execute("SELECT id, balance FROM accounts")
        balances = dict(cursor.fetchall())
    assert int(total) == ACCOUNTS * OPENING
    assert poorest >= 0
    assert bank.totals == {ACCOUNTS * OPENING}, "a snapshot saw money appear or vanish"
    assert set(bank.acknowledged) <= {number for number, *_ in transfers}, "an acknowledged transfer is lost"
    expected = dict.fromkeys(range(ACCOUNTS), OPENING)
    for _, source, target, amount in transfers:
        expected[source] -= amount
        expected[target] += amount
    assert balances == expected, "the balances are not what the transfers made of them"
