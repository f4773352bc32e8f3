"""Turns Raft leadership into sessions of work: one session per term in which this member leads.

Invariants: at most one session at a time; a session begins only after everything earlier leaders were promised is applied here; it
ends when the term or the role does. A lease that lapses does not end it: its calls are refused until a quorum answers again, for
nobody else can have led meanwhile in the same term.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from core_py.errors import DbError
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from pd_py.member.fenced import FencedStore
from pd_py.metastore.replicated import ReplicatedStore

RETRY_S = 0.2


class Session(Protocol):
    """What a leader does in one term."""

    async def close(self) -> None:
        """Stop; nothing of it goes on afterwards."""
        ...


class Leadership:
    """Begins and ends sessions. Run it as a task."""

    def __init__(self, store: ReplicatedStore, begin: Callable[[FencedStore], Coroutine[Any, Any, Session]]) -> None:
        self._store = store
        self._begin = begin
        self._changed = asyncio.Event()
        store.replica.on_state = self._changed.set

    async def run(self) -> None:
        """Follow the role until cancelled."""
        while True:
            await self._until(leads=True)
            fenced = FencedStore(self._store)
            try:
                session = await self._begun(fenced)
            except DbError as error:
                get_logger().warn("cannot begin to lead yet", error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            if session is None:
                continue
            get_logger().info("this member leads", term=fenced.term)
            try:
                await self._until(leads=False, term=fenced.term)
            finally:
                await session.close()
            get_logger().info("this member leads no more", term=fenced.term)

    async def _begun(self, fenced: FencedStore) -> Session | None:
        """The session, or None if leadership went while it was being made."""
        scope = TaskScope("leadership", on_failure=lambda _error: None)  # `result` raises it
        try:
            making = scope.spawn(self._begin(fenced))
            losing = scope.spawn(self._until(leads=False, term=fenced.term))
            await asyncio.wait([making, losing], return_when=asyncio.FIRST_COMPLETED)
            return making.result() if making.done() else None
        finally:
            await scope.close()

    async def _until(self, *, leads: bool, term: int = 0) -> None:
        """Wait until this member leads, or no longer leads in `term`."""
        while True:
            self._changed.clear()
            does = self._store.replica.leads and (not term or self._store.term == term)
            if does == leads:
                return
            await self._changed.wait()
