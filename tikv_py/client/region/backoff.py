"""Pauses between retries: kinds with base, cap and jitter as client-go has them, under one budget per operation.

A `Backoffer` is made per user-level operation and handed down; every pause is charged to it. When the budget is spent, the error
of the kind that slept longest is raised, because that one says what stood in the way; its text has the last three causes. The
last pause is cut to what is left, so that a budget is used up and never overrun. A busy store is another matter than a missing
one: its pauses have a budget of their own (`exempt_ms`) and do not count against the operation's. `fork` gives parallel branches
the same history.

Sleeping is `asyncio.sleep`: virtual time works, and a caller's own `asyncio.timeout` or cancellation ends a pause at once.
Randomness comes from a port.
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
from tikv_py.client.rpc.stats import ClientStats

CAUSES_KEPT = 3
BUSY_EXEMPT_MS = 600_000


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
    exempt_ms: int = 0
    """Pauses of this kind are not charged to the operation until they sum up to so much."""


TIKV_RPC = BackoffKind("tikvRPC", 100, 2000, Jitter.EQUAL, TikvTimeout)
PD_RPC = BackoffKind("pdRPC", 500, 3000, Jitter.EQUAL, PdTimeout)
REGION_MISS = BackoffKind("regionMiss", 2, 500, Jitter.NO, RegionUnavailable)
REGION_SCHEDULING = BackoffKind("regionScheduling", 2, 500, Jitter.NO, RegionUnavailable)
SERVER_BUSY = BackoffKind("tikvServerBusy", 2000, 10000, Jitter.EQUAL, TikvBusy, exempt_ms=BUSY_EXEMPT_MS)
DISK_FULL = BackoffKind("tikvDiskFull", 500, 5000, Jitter.NO, TikvBusy)
STALE_COMMAND = BackoffKind("staleCommand", 2, 1000, Jitter.NO, TikvTimeout)
TXN_LOCK = BackoffKind("txnLock", 100, 3000, Jitter.EQUAL, ResolveLockTimeout)
TXN_LOCK_FAST = BackoffKind("txnLockFast", 2, 3000, Jitter.EQUAL, ResolveLockTimeout)
TXN_RESTART = BackoffKind("txnRestart", 2, 200, Jitter.FULL, ResolveLockTimeout)
"""Between the runs of a transaction that met a conflict. Short and quite random: whoever waits long loses to newcomers."""
TXN_NOT_FOUND = BackoffKind("txnNotFound", 2, 500, Jitter.NO, ResolveLockTimeout)
MAX_TS_NOT_SYNCED = BackoffKind("maxTsNotSynced", 2, 500, Jitter.NO, TikvTimeout)
REGION_NOT_INITIALIZED = BackoffKind("regionNotInitialized", 2, 1000, Jitter.NO, RegionUnavailable)
REGION_RECOVERY = BackoffKind("regionRecoveryInProgress", 100, 10000, Jitter.EQUAL, RegionUnavailable)
IS_WITNESS = BackoffKind("isWitness", 1000, 10000, Jitter.EQUAL, RegionUnavailable)


class _History:
    """What was slept, by kind. Made by the first pause: most operations have none."""

    __slots__ = ("causes", "kinds", "last_ms", "slept_ms", "tries")

    def __init__(self, other: _History | None = None) -> None:
        self.kinds: dict[str, BackoffKind] = dict(other.kinds) if other else {}
        self.tries: dict[str, int] = dict(other.tries) if other else {}
        self.slept_ms: dict[str, int] = dict(other.slept_ms) if other else {}
        self.last_ms: dict[str, int] = dict(other.last_ms) if other else {}
        self.causes: deque[str] = deque(other.causes if other else (), maxlen=CAUSES_KEPT)


class Backoffer:
    """One operation's budget."""

    __slots__ = ("_history", "_random", "budget_ms", "exempt_ms", "rpc_error", "spent_ms", "stats")

    def __init__(self, budget_ms: int, random: Random, stats: ClientStats | None = None) -> None:
        self.budget_ms, self._random = budget_ms, random
        self.spent_ms = self.exempt_ms = 0
        """Milliseconds slept, charged and not charged."""
        self._history: _History | None = None
        self.stats = stats
        """Where pauses are counted; the sender fills in its own."""
        self.rpc_error: RpcError | None = None
        """The last transport failure whose request may have been carried out; whoever knows better clears it."""

    def fork(self) -> Backoffer:
        """A branch with the same history; what it spends is not charged here (see `join`)."""
        branch = Backoffer(self.budget_ms, self._random, self.stats)
        branch.spent_ms, branch.exempt_ms = self.spent_ms, self.exempt_ms
        if self._history is not None:
            branch._history = _History(self._history)
        return branch

    def join(self, branch: Backoffer) -> None:
        """Charge a finished branch: parallel branches cost as much as the slowest, whose history is taken over."""
        if branch.spent_ms + branch.exempt_ms > self.spent_ms + self.exempt_ms:
            self._history = _History(branch._history)
        self.spent_ms = max(self.spent_ms, branch.spent_ms)
        self.exempt_ms = max(self.exempt_ms, branch.exempt_ms)

    async def backoff(self, kind: BackoffKind, cause: object, *, at_most_ms: int | None = None) -> None:
        """Sleep as `kind` says. Raises a BudgetExhausted class when the budget was spent before."""
        history = self._history = self._history or _History()
        pause = self._next_ms(history, kind)
        if at_most_ms is not None:
            pause = max(1, min(pause, at_most_ms))
        await self._sleep(history, kind, cause, pause)

    async def pause(self, kind: BackoffKind, cause: object, wanted_ms: int) -> None:
        """Sleep `wanted_ms`, as a server asked for (up to the kind's cap), or without such a wish as `kind` says."""
        if wanted_ms <= 0:
            await self.backoff(kind, cause)
        else:
            history = self._history = self._history or _History()
            await self._sleep(history, kind, cause, min(wanted_ms, kind.cap_ms))

    async def _sleep(self, history: _History, kind: BackoffKind, cause: object, pause: int) -> None:
        name, exempt = kind.name, kind.exempt_ms
        history.causes.append(str(cause))
        history.kinds[name] = kind
        if self.spent_ms >= self.budget_ms or self._is_exemption_spent(kind):
            raise self._error(history, kind) from (cause if isinstance(cause, BaseException) else None)
        if exempt:
            self.exempt_ms += pause
        else:
            pause = min(pause, self.budget_ms - self.spent_ms)
            self.spent_ms += pause
        history.tries[name] = history.tries.get(name, 0) + 1
        history.slept_ms[name] = history.slept_ms.get(name, 0) + pause
        if self.stats is not None:
            self.stats.retries[name] += 1
            self.stats.retry_ms[name] += pause
        await asyncio.sleep(pause / 1000)

    def _is_exemption_spent(self, kind: BackoffKind) -> bool:
        return kind.exempt_ms > 0 and self.exempt_ms >= max(kind.exempt_ms, self.budget_ms)

    def _next_ms(self, history: _History, kind: BackoffKind) -> int:
        full = min(kind.cap_ms, kind.base_ms << min(history.tries.get(kind.name, 0), 20))
        if kind.jitter is Jitter.NO:
            made = full
        elif kind.jitter is Jitter.FULL:
            made = self._random.randrange(0, full + 1)
        elif kind.jitter is Jitter.EQUAL:
            made = full // 2 + self._random.randrange(0, full // 2 + 1)
        else:
            last = history.last_ms.get(kind.name, kind.base_ms)
            made = min(kind.cap_ms, self._random.randrange(kind.base_ms, max(kind.base_ms, last * 3) + 1))
        history.last_ms[kind.name] = made
        return max(1, made)

    def _error(self, history: _History, kind: BackoffKind) -> BudgetExhausted:
        """The failure of the kind that slept longest; of the present one when that used up its own budget, or alone slept."""
        charged = {name: slept for name, slept in history.slept_ms.items() if not history.kinds[name].exempt_ms}
        longest = kind
        if charged and not self._is_exemption_spent(kind):
            longest = history.kinds[max(charged, key=charged.__getitem__)]
        tries = ", ".join(f"{name} x{count} {history.slept_ms[name]} ms" for name, count in history.tries.items())
        causes = "; ".join(f"{number}. {text}" for number, text in enumerate(history.causes, 1))
        waited = self.spent_ms + self.exempt_ms
        return longest.error(
            f"{kind.name}: budget of {self.budget_ms} ms is spent after {waited} ms of waiting ({tries or 'none'});"
            f" last causes: {causes}"
        )
