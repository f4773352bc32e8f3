"""Runs a lock request until it has its locks, or may not wait any longer.

The request is decided again each time it is woken, so a transaction that finds its key free has it at once, without its client's
doing. How long it waits: not at all when the client says so (a negative time), else until the client's limit or the server's,
whichever is sooner; clients that want to wait longer ask again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from core_py.ports import Clock
from protos.kvproto import kvrpcpb_pb2
from tikv_py.mvcc import keys
from tikv_py.mvcc.errors import KeyIsLocked
from tikv_py.raftstore.region import check_key
from tikv_py.txn.context import RegionAccess
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

    def __init__(self, access: RegionAccess, scheduler: Scheduler, clock: Clock) -> None:
        self._access = access
        self._scheduler = scheduler
        self._waiting = scheduler.waiting
        self._clock = clock
        self._fail = access.store.fail

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
        met = self._known(context, user_keys, claim) if policy.timeout_ms >= 0 else None
        while True:
            if met is None:
                try:
                    return await self._scheduler.run(context, user_keys, claim.start_ts, decide)
                except KeyIsLocked as error:
                    met = error
            left_s = until - clock.monotonic()
            if left_s <= 0 or (self._fail.armed and self._fail.hit("lock_wait_begin") is not None):
                raise met
            refused = await self._waiting.wait(met, claim, left_s)
            if refused is not None:
                raise refused
            met = None

    def _known(self, context: kvrpcpb_pb2.Context, user_keys: Sequence[bytes], claim: Claim) -> KeyIsLocked | None:
        """The lock that a request of one hot key will meet, so that it goes into line without a latch and a look at the data.

        Those who ask again each second would else stand in the latch's line before the one that wants to give the key back.
        Raises region errors.
        """
        if len(user_keys) != 1:
            return None
        key = keys.data_key(user_keys[0])
        met = self._waiting.known_lock(key, claim.start_ts)
        if met is not None:
            check_key(self._access.leader(context).region, key[1:])
        return met
