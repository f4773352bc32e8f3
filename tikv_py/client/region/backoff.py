"""Pauses between retries: kinds with base, cap and jitter as client-go has them, under one budget per operation.

A `Backoffer` is made per user-level operation and handed down; every pause is charged to it, and when the budget is spent the error
class of the last kind is raised with the last three causes. `fork` gives parallel branches the same remaining budget. Sleeping is
`asyncio.sleep`, so virtual time works; randomness comes from a port.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from dataclasses import dataclass

from core_py.errors import RpcError
from core_py.ports import Random
from tikv_py.client.errors import (
    BudgetExhausted,
    PdTimeout,
    RegionUnavailable,
    ResolveLockTimeout,
    TikvBusy,
    TikvTimeout,
)

CAUSES_KEPT = 3


class Jitter(enum.Enum):
    """How much of a pause is random."""

    NO = "no"
    FULL = "full"
    EQUAL = "equal"
    DECORRELATED = "decorrelated"


@dataclass(frozen=True, slots=True)
class BackoffKind:
    """Why one waits, and how: base * 2^n up to cap, in milliseconds."""

    name: str
    base_ms: int
    cap_ms: int
    jitter: Jitter
    error: type[BudgetExhausted]


TIKV_RPC = BackoffKind("tikvRPC", 100, 2000, Jitter.EQUAL, TikvTimeout)
PD_RPC = BackoffKind("pdRPC", 500, 3000, Jitter.EQUAL, PdTimeout)
REGION_MISS = BackoffKind("regionMiss", 2, 500, Jitter.NO, RegionUnavailable)
REGION_SCHEDULING = BackoffKind("regionScheduling", 2, 500, Jitter.NO, RegionUnavailable)
SERVER_BUSY = BackoffKind("serverBusy", 2000, 10000, Jitter.EQUAL, TikvBusy)
DISK_FULL = BackoffKind("tikvDiskFull", 500, 5000, Jitter.NO, TikvBusy)
STALE_COMMAND = BackoffKind("staleCommand", 2, 1000, Jitter.NO, TikvTimeout)
TXN_LOCK = BackoffKind("txnLock", 100, 3000, Jitter.EQUAL, ResolveLockTimeout)
TXN_LOCK_FAST = BackoffKind("txnLockFast", 2, 3000, Jitter.EQUAL, ResolveLockTimeout)
TXN_NOT_FOUND = BackoffKind("txnNotFound", 2, 500, Jitter.NO, ResolveLockTimeout)
MAX_TS_NOT_SYNCED = BackoffKind("maxTsNotInitialized", 2, 500, Jitter.NO, TikvTimeout)
REGION_NOT_INITIALIZED = BackoffKind("maxRegionNotInitialized", 2, 1000, Jitter.NO, RegionUnavailable)
REGION_RECOVERY = BackoffKind("regionRecoveryInProgress", 100, 10000, Jitter.EQUAL, RegionUnavailable)
IS_WITNESS = BackoffKind("isWitness", 1000, 10000, Jitter.EQUAL, RegionUnavailable)


class Backoffer:
    """One operation's budget."""

    __slots__ = ("_causes", "_last_ms", "_random", "_tries", "budget_ms", "rpc_error", "spent_ms")

    def __init__(self, budget_ms: int, random: Random) -> None:
        self.budget_ms, self._random = budget_ms, random
        self.spent_ms = 0
        self._tries: dict[str, int] = {}
        self._last_ms: dict[str, int] = {}
        self._causes: deque[str] = deque(maxlen=CAUSES_KEPT)
        self.rpc_error: RpcError | None = None
        """The last transport failure whose request may have been carried out; whoever knows better clears it."""

    def fork(self) -> Backoffer:
        """A branch with the same history; what it spends is not charged here (see `join`)."""
        branch = Backoffer(self.budget_ms, self._random)
        branch.spent_ms = self.spent_ms
        branch._tries, branch._last_ms = dict(self._tries), dict(self._last_ms)
        branch._causes.extend(self._causes)
        return branch

    def join(self, branch: Backoffer) -> None:
        """Charge a finished branch: parallel branches cost as much as the slowest."""
        self.spent_ms = max(self.spent_ms, branch.spent_ms)

    async def backoff(self, kind: BackoffKind, cause: object, *, at_most_ms: int | None = None) -> None:
        """Sleep as `kind` says. Raises the kind's error when the budget does not allow it."""
        self._causes.append(str(cause))
        pause = self._pause_ms(kind)
        if at_most_ms is not None:
            pause = max(1, min(pause, at_most_ms))
        if self.spent_ms + pause > self.budget_ms:
            raise kind.error(self._text(kind)) from (cause if isinstance(cause, BaseException) else None)
        self.spent_ms += pause
        await asyncio.sleep(pause / 1000)

    async def pause(self, kind: BackoffKind, cause: object, wanted_ms: int) -> None:
        """Sleep at least `wanted_ms`, as a server asked for, else as `kind` says."""
        if wanted_ms > kind.cap_ms:
            wanted_ms = kind.cap_ms
        if self.spent_ms + wanted_ms > self.budget_ms or not wanted_ms:
            await self.backoff(kind, cause)
            return
        self._causes.append(str(cause))
        self.spent_ms += wanted_ms
        await asyncio.sleep(wanted_ms / 1000)

    def _pause_ms(self, kind: BackoffKind) -> int:
        tries = self._tries.get(kind.name, 0)
        self._tries[kind.name] = tries + 1
        full = min(kind.cap_ms, kind.base_ms << min(tries, 20))
        if kind.jitter is Jitter.NO:
            made = full
        elif kind.jitter is Jitter.FULL:
            made = self._random.randrange(0, full + 1)
        elif kind.jitter is Jitter.EQUAL:
            made = full // 2 + self._random.randrange(0, full // 2 + 1)
        else:
            last = self._last_ms.get(kind.name, kind.base_ms)
            made = min(kind.cap_ms, self._random.randrange(kind.base_ms, max(kind.base_ms, last * 3) + 1))
        self._last_ms[kind.name] = made
        return max(1, made)

    def _text(self, kind: BackoffKind) -> str:
        tries = ", ".join(f"{name} x{count}" for name, count in self._tries.items())
        causes = "; ".join(f"{number}. {text}" for number, text in enumerate(self._causes, 1))
        return (
            f"{kind.name}: budget of {self.budget_ms} ms is spent after {self.spent_ms} ms of waiting ({tries});"
            f" last causes: {causes}"
        )
