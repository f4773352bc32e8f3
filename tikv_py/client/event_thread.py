"""An event loop in a thread of its own, for programs that have none.

There is one per process, started when it is first needed: gRPC for asyncio does not survive a second loop. It is a daemon
thread that lives as long as the process; clients on it are closed one by one.

Invariants: calls come from other threads, never from inside a running loop, where waiting for another loop would stop the
caller's; an exception of a coroutine is raised in the thread that waits for it; a wait that is interrupted (Ctrl-C) cancels the
coroutine.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from tikv_py.client.errors import SyncInsideLoop

T = TypeVar("T")


class EventThread:
    """A running loop, and the way into it."""

    def __init__(self, name: str = "tikv client") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for its result. Raises what it raises, SyncInsideLoop."""
        if _inside_loop() or sys.is_finalizing():  # a daemon thread stands still when the process ends
            work.close()
            raise SyncInsideLoop(
                "a synchronous client cannot be used inside a running event loop (use the async client of"
                " tikv_py.client.connect there), nor while the process ends"
            )
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the loop and the thread; for tests, which have loops of their own."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def _inside_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


_lock = threading.Lock()
_shared: list[EventThread] = []


def shared() -> EventThread:
    """The process's thread."""
    with _lock:
        if not _shared:
            _shared.append(EventThread())
        return _shared[0]
