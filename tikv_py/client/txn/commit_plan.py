"""A commit's plan and where it stands: values that the phases of a commit share.

Three ways to commit, tried in this order while they are allowed and the stores agree:

    1PC           all keys in one request: the store commits them at once                     1 round trip
    async commit  few and small keys: committed when all are prewritten, whoever finds out    1 round trip, locks removed later
    two phases    prewrite all keys, then commit the primary, then the others                 2 round trips and a timestamp
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tikv_py.client.txn.mutations import Mutation, lock_ttl_ms

MAX_ASYNC_KEYS = 256
MAX_ASYNC_BYTES = 4096


@dataclass(frozen=True, slots=True)
class CommitPlan:
    """What to commit, decided by the transaction.

    `begun_at` is the clock's reading when it got its start_ts. `before_commit` is a check between the two phases (see
    `committer`). `max_commit_ts` limits the timestamp of 1PC and async commit; 0 = no limit. `causal_only` waives that whoever
    begins after this commit has returned, without having heard of it, sees it.
    """

    start_ts: int
    primary: bytes
    mutations: Sequence[Mutation]
    begun_at: float
    pessimistic: bool = False
    for_update_ts: int = 0
    try_one_pc: bool = True
    use_async_commit: bool = True
    causal_only: bool = False
    trust_unlocked: bool = False
    before_commit: Callable[[], Awaitable[None]] | None = None
    max_commit_ts: int = 0

    @property
    def may_skip_second_phase(self) -> bool:
        """Whether 1PC and async commit are allowed: a check between the phases excludes them, unless a time limit replaces it."""
        return self.before_commit is None or self.max_commit_ts > 0


class CommitState:
    """How far a commit is."""

    __slots__ = (
        "commit_sent",
        "floor_ts",
        "min_commit_ts",
        "one_pc",
        "one_pc_ts",
        "plan",
        "size",
        "use_async",
        "writes",
    )

    def __init__(self, plan: CommitPlan) -> None:
        self.plan = plan
        self.writes = [mutation for mutation in plan.mutations if not mutation.is_only_check]
        self.size = sum(mutation.size for mutation in plan.mutations)
        allowed = plan.may_skip_second_phase and bool(self.writes)
        self.one_pc = plan.try_one_pc and allowed
        self.use_async = plan.use_async_commit and allowed and self._is_small()
        self.floor_ts = 0
        self.min_commit_ts = 0
        self.one_pc_ts = 0
        self.commit_sent = False

    def _is_small(self) -> bool:
        return len(self.writes) <= MAX_ASYNC_KEYS and sum(len(m.key) for m in self.writes) <= MAX_ASYNC_BYTES

    @property
    def prewrite_decides(self) -> bool:
        """Whether the transaction may become committed by prewrites alone."""
        return self.one_pc or self.use_async

    @property
    def may_be_committed(self) -> bool:
        """Whether a request on its way may commit the transaction."""
        return self.commit_sent or self.prewrite_decides

    def to_two_phases(self) -> None:
        """A store declined, or the timestamp would be too late: the second phase decides."""
        self.one_pc = self.use_async = False
        self.min_commit_ts = 0

    def ttl_ms(self, now: float) -> int:
        """The locks' time to live from start_ts on, as stores count it: the time already gone plus what the commit may take."""
        return int((now - self.plan.begun_at) * 1000) + lock_ttl_ms(self.size)
