"""Ports of playgrounds for tests: out of the kernel's way, and chosen anew when one is taken, whoever noticed it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from core_py.errors import CANNOT_LISTEN, ConfigError
from core_py.runtime.status_server import StatusServer
from tidb_py.playground.plan import MAX_INSTANCES, Options, make_plan
from tidb_py.playground.runner import check_ports, is_ready
from tidb_py.testing import playground as pg

EPHEMERAL = 32768
READY = {"mysql": "127.0.0.1:5000", "pd": "127.0.0.1:3379", "status": {}, "pids": {}, "data_dir": "d"}


def test_no_port_is_one_that_the_kernel_gives_to_connections() -> None:
    for offset in (pg.OFFSETS[0], pg.OFFSETS[-1]):
        options = Options(db=MAX_INSTANCES, kv=MAX_INSTANCES, port_offset=offset, data_dir=Path("d"))
        ports = [port for instance in make_plan(options).instances for port in instance.ports]
        assert 1024 < min(ports) <= max(ports) < EPHEMERAL


def listen_somewhere(taken: socket.socket) -> int:
    """Take a playground's port of PD; the offset that leads there."""
    for offset in pg.OFFSETS:
        with contextlib.suppress(OSError):
            taken.bind(("127.0.0.1", 2379 + offset))
            taken.listen()
            return offset
    raise AssertionError("no port is free")


def test_a_taken_port_is_reported_with_the_words_that_all_servers_use() -> None:
    with socket.socket() as taken:
        offset = listen_somewhere(taken)
        with pytest.raises(ConfigError, match=f"{CANNOT_LISTEN} port {offset + 2379} for pd-0"):
            check_ports(make_plan(Options(port_offset=offset, data_dir=Path("d"))))


class FakeProcess:
    """A playground that says one thing and ends."""

    def __init__(self, ready: str, errors: str) -> None:
        self.stdout = io.StringIO(ready)
        self._errors = errors

    def communicate(self) -> tuple[str, str]:
        return "", self._errors


def starting(monkeypatch: pytest.MonkeyPatch, *said: str) -> list[list[str]]:
    """Playgrounds fail with these words, one after the other, then one comes up; the command lines."""
    commands: list[list[str]] = []

    def popen(command: list[str], **_options: Any) -> FakeProcess:
        commands.append(command)
        attempt = len(commands)
        return FakeProcess("", said[attempt - 1]) if attempt <= len(said) else FakeProcess(json.dumps(READY), "")

    monkeypatch.setattr(subprocess, "Popen", popen)
    return commands


def test_other_ports_are_tried_whoever_finds_one_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = starting(
        monkeypatch,
        f"error: {CANNOT_LISTEN} port 5000 for tidb-0 (Address already in use); stop what runs there",
        f"error: tikv-0 ended with exit code 1: error: {CANNOT_LISTEN} 127.0.0.1:21160: the port is in use",
    )
    cluster = pg.start()
    assert len(commands) == 3
    assert cluster.port_offset in pg.OFFSETS


def test_other_failures_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = starting(monkeypatch, "error: unknown key raftstore.tick")
    with pytest.raises(pg.PlaygroundFailed, match="unknown key"):
        pg.start()
    assert len(commands) == 1


def test_ports_that_somebody_asked_for_are_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = starting(monkeypatch, f"error: {CANNOT_LISTEN} port 5000 for tidb-0")
    with pytest.raises(pg.PlaygroundFailed, match=CANNOT_LISTEN):
        pg.start(port_offset=1000)
    assert len(commands) == 1


async def test_the_answer_of_another_playgrounds_process_is_not_taken_for_our_childs() -> None:
    ready = False
    server = StatusServer(CollectorRegistry(), status=dict, ready=lambda: ready)
    await server.start("127.0.0.1:0")
    try:
        (pd,) = make_plan(Options(data_dir=Path("d"))).by_role("pd")
        pd = replace(pd, status_address=server.address)
        assert not await is_ready(pd, os.getpid())
        ready = True
        assert await is_ready(pd, os.getpid())
        assert not await is_ready(pd, os.getppid())
    finally:
        await server.stop()
    assert not await is_ready(pd, os.getpid())
