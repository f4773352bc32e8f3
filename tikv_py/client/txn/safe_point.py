"""The txn safe point, as far as this client knows it: transactions that began before it must not go on.

PD is asked at most every `REFRESH_S` seconds, in the background, and only while somebody reads or commits. So what is known may be
that old; a store refuses readers below the point up to which it has collected, whatever the client knows. An old PD without a
txn safe point is asked for its GC safe point instead.

Invariants: the point never goes back; `check` never waits. Tests: tests/unit/client/test_safe_point.py.
"""

from __future__ import annotations

from core_py.errors import DbError, RpcError
from core_py.ports import Clock
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from tikv_py.client.errors import GcTooEarly
from tikv_py.client.pd.client import PdClient

REFRESH_S = 10.0


class TxnSafePoint:
    """Shared by all snapshots and transactions of a client. `scope` runs the questions to PD."""

    def __init__(self, pd: PdClient, clock: Clock, scope: TaskScope) -> None:
        self._pd, self._clock, self._scope = pd, clock, scope
        self._due = clock.monotonic()
        self._has_state = True
        self.known = 0

    def check(self, start_ts: int) -> None:
        """Raise GcTooEarly for a timestamp below the safe point."""
        if self._clock.monotonic() >= self._due:
            self._due = self._clock.monotonic() + REFRESH_S
            self._scope.spawn(self._refresh(), name="txn safe point")
        if start_ts < self.known:
            raise GcTooEarly.at(start_ts, self.known)

    def note(self, safe_point: int) -> None:
        """It has reached this."""
        self.known = max(self.known, safe_point)

    async def _refresh(self) -> None:
        try:
            self.note(await self._ask())
        except DbError as error:
            get_logger().info("txn safe point not learned", error=str(error))

    async def _ask(self) -> int:
        if self._has_state:
            try:
                return int((await self._pd.get_gc_state()).txn_safe_point)
            except RpcError as error:
                if error.status != "UNIMPLEMENTED":
                    raise
                self._has_state = False
        return await self._pd.get_gc_safe_point()
