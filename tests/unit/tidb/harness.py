"""A SQL server over the in-memory store in this process, and PyMySQL connections to it from a thread."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
from prometheus_client import CollectorRegistry

from core_py.runtime.clock import SystemClock
from tidb_py.server.app import SqlServer
from tidb_py.server.config import TidbConfig
from tidb_py.session.memory_storage import MemoryStorage


class RunningServer:
    """A server on its own thread and loop."""

    def __init__(self) -> None:
        self.port = 0
        self.server: SqlServer | None = None
        self.storage: MemoryStorage | None = None
        self.registry = CollectorRegistry()
        running = os.environ.get("TIDB_PY_TEST_PORT")
        if running:  # the same tests against a cluster that runs already
            self.port = int(running)
            return
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()
        self._ready.wait(30)
        if self._failure is not None:
            raise self._failure

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:  # handed to the thread that waits
            self._failure = error
        self._ready.set()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.storage = MemoryStorage()
        config = TidbConfig(host="127.0.0.1", port=0)
        self.server = SqlServer(config, self.storage, registry=self.registry, clock=SystemClock())
        await self.server.start()
        self.port = self.server.port
        self._ready.set()
        await self._stop.wait()
        await self.server.stop()

    def close(self) -> None:
        if self.server is None:
            return
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(15)
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def connect(self, **options: Any) -> Iterator[Any]:
        settings: dict[str, Any] = {"user": "root", "autocommit": True, "local_infile": True} | options
        connection = pymysql.connect(host="127.0.0.1", port=self.port, **settings)
        try:
            yield connection
        finally:
            connection.close()


def rows(connection: Any, sql: str, args: Any = None) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(sql, args)
        return list(cursor.fetchall() or ())


def one(connection: Any, sql: str, args: Any = None) -> Any:
    """Run a statement and return its single value."""
    found = rows(connection, sql, args)
    assert len(found) == 1
    return found[0][0]


def code(connection: Any, sql: str, args: Any = None) -> int:
    """Run a statement that must fail and return its error number."""
    try:
        rows(connection, sql, args)
    except pymysql.MySQLError as error:
        return int(error.args[0])
    raise AssertionError(f"{sql} did not fail")
