"""What snapshots and transactions need from their client, in one value."""

from __future__ import annotations

from dataclasses import dataclass

from core_py.ports import Clock, Random
from core_py.runtime.tasks import TaskScope
from tikv_py.client.pd.client import PdClient
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.cache import RegionCache
from tikv_py.client.region.sender import RegionRequestSender
from tikv_py.client.txn.latches import LocalLatches
from tikv_py.client.txn.lock_resolver import LockResolver
from tikv_py.client.txn.safe_point import TxnSafePoint

READ_BUDGET_MS = 20_000
PREWRITE_BUDGET_MS = 40_000
COMMIT_BUDGET_MS = 41_000
CLEANUP_BUDGET_MS = 20_000


@dataclass(frozen=True, slots=True)
class ClientContext:
    """The client's parts. `scope` owns background work that ends, `heart_beats` what runs as long as a transaction."""

    pd: PdClient
    region_cache: RegionCache
    sender: RegionRequestSender
    lock_resolver: LockResolver
    scope: TaskScope
    heart_beats: TaskScope
    clock: Clock
    random: Random
    safe_point: TxnSafePoint
    latches: LocalLatches | None = None

    def new_backoffer(self, budget_ms: int) -> Backoffer:
        """A budget for one operation."""
        return Backoffer(budget_ms, self.random)
