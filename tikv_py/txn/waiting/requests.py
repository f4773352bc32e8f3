"""Runs a lock request until it has its locks, or may not wait any longer.

The request is decided again each time it is woken, so a transaction that finds its key free has it at once, without its client's
doing. How long it waits: not at all when the client says so (a negative time), else until the client's limit or the server's,
whichever is sooner; clients that want to wait longer ask again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from core_py.failpoints import FailPoints
from core_py.ports import Clock
from protos.kvproto import kvrpcpb_pb2
from tikv_py.mvcc.errors import KeyIsLocked
from tikv_py.txn.scheduler import Decision, Scheduler
from tikv_py.txn.waiting.key_queue import Claim

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WaitPolicy:
    """How long a request may wait for locks in ms: negative not at all, 0 the server's limit."""

    timeout_ms: int

    def limit_s(self, longest_s: float) -> float:
        """Seconds to wait, capped by the server."""
        if self.timeout_ms < 0:
            return 0.0
        return longest_s if self.timeout_ms == 0 else min(self.timeout_ms / 1000, longest_s)


class LockRequests:
    """Runs the requests of a store."""

    def __init__(self, scheduler: Scheduler, clock: Clock, fail: FailPoints) -> None:
        self._scheduler = scheduler
        self._waiting = scheduler.waiting
        self._clock = clock
        self._fail = fail

    async def run(
        self,
        context: kvrpcpb_pb2.Context,
        user_keys: Sequence[bytes],
        claim: Claim,
        decide: Decision[T],
        policy: WaitPolicy,
    ) -> T:
        """Like `Scheduler.run`, but a KeyIsLocked is waited for within the policy, and tried again.

        Raises LockWaitEnded, DeadlockFound, other TxnErrors, region errors.
        """
        clock = self._clock
        until = clock.monotonic() + policy.limit_s(self._waiting.settings.timeout_s)
        while True:
            try:
                return await self._scheduler.run(context, user_keys, claim.start_ts, decide)
            except KeyIsLocked as met:
                left_s = until - clock.monotonic()
                if left_s <= 0:
                    raise
                if self._fail.armed and self._fail.hit("lock_wait_begin") is not None:
                    raise
                refused = await self._waiting.wait(met, claim, left_s)
                if refused is not None:
                    raise refused from None
