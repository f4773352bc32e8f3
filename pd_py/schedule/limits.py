"""How fast stores may gain and lose replicas: a token bucket per store and direction, set in regular regions per minute.

A regular region costs 1000 tokens (`pd_py.schedule.influence`). The bucket holds one region, or one second's worth when the rate is
higher, so that bursts stay small. Pure: the time is given by the caller, in seconds of one monotonic clock.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from core_py.errors import PdError, RetryClass
from pd_py.schedule.influence import REGULAR_COST

DEFAULT_RATE_PER_MIN = 15.0
UNLIMITED_RATE_PER_MIN = 100_000_000.0


class InvalidStoreLimit(PdError):
    """A limit that cannot be set."""

    code = "PD:schedule:InvalidStoreLimit"
    retry = RetryClass.NEVER


class LimitType(enum.Enum):
    """Which direction is limited, by public name."""

    ADD_PEER = "add-peer"
    REMOVE_PEER = "remove-peer"


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


@dataclass(frozen=True, slots=True)
class StoreLimit:
    """The rates of one store, in regular regions per minute."""

    add_peer: float = DEFAULT_RATE_PER_MIN
    remove_peer: float = DEFAULT_RATE_PER_MIN

    def rate(self, kind: LimitType) -> float:
        """The rate of one direction."""
        return self.add_peer if kind is LimitType.ADD_PEER else self.remove_peer

    def with_rate(self, kind: LimitType, rate: float) -> StoreLimit:
        """The same with another rate."""
        if kind is LimitType.ADD_PEER:
            return StoreLimit(rate, self.remove_peer)
        return StoreLimit(self.add_peer, rate)


class StoreLimits:
    """The limits of all stores. A store without one of its own has the default."""

    def __init__(self) -> None:
        self.default = StoreLimit()
        self._own: dict[int, StoreLimit] = {}
        self._buckets: dict[tuple[int, LimitType], _Bucket] = {}

    def of(self, store_id: int) -> StoreLimit:
        """A store's limits."""
        return self._own.get(store_id, self.default)

    def own(self) -> dict[int, StoreLimit]:
        """The stores that have limits of their own."""
        return dict(self._own)

    def set(self, store_id: int, kind: LimitType | None, rate: float) -> None:
        """Set one store's rate, of one direction or of both. Raises InvalidStoreLimit."""
        self._own[store_id] = self._changed(self.of(store_id), kind, rate)
        self._forget(store_id)

    def set_all(self, kind: LimitType | None, rate: float) -> None:
        """Set the rate of all stores there are and will be. Raises InvalidStoreLimit."""
        self.default = self._changed(self.default, kind, rate)
        self._own = {store_id: self._changed(limit, kind, rate) for store_id, limit in self._own.items()}
        self._buckets.clear()

    def restore(self, default: StoreLimit, own: dict[int, StoreLimit]) -> None:
        """Take what was stored."""
        self.default, self._own = default, dict(own)
        self._buckets.clear()

    def drop(self, store_id: int) -> None:
        """Forget a store that is gone."""
        self._own.pop(store_id, None)
        self._forget(store_id)

    def available(self, store_id: int, kind: LimitType, now: float, cost: int = REGULAR_COST) -> bool:
        """Whether a step of this cost may begin."""
        rate = self.of(store_id).rate(kind)
        if cost <= 0 or rate >= UNLIMITED_RATE_PER_MIN:
            return True
        return self._bucket(store_id, kind, now).tokens >= cost

    def take(self, store_id: int, kind: LimitType, now: float, cost: int) -> None:
        """A step of this cost has begun. A single one that costs more than is there goes into debt."""
        if cost > 0 and self.of(store_id).rate(kind) < UNLIMITED_RATE_PER_MIN:
            self._bucket(store_id, kind, now).tokens -= cost

    def _bucket(self, store_id: int, kind: LimitType, now: float) -> _Bucket:
        per_s = self.of(store_id).rate(kind) / 60.0 * REGULAR_COST
        capacity = max(float(REGULAR_COST), per_s)
        bucket = self._buckets.get((store_id, kind))
        if bucket is None:
            bucket = self._buckets[store_id, kind] = _Bucket(capacity, now)
        else:
            bucket.tokens = min(capacity, bucket.tokens + (now - bucket.at) * per_s)
            bucket.at = now
        return bucket

    def _forget(self, store_id: int) -> None:
        for kind in LimitType:
            self._buckets.pop((store_id, kind), None)

    @staticmethod
    def _changed(limit: StoreLimit, kind: LimitType | None, rate: float) -> StoreLimit:
        if not 0 < rate < float("inf"):
            raise InvalidStoreLimit("rate should be a number that > 0")
        for one in LimitType if kind is None else (kind,):
            limit = limit.with_rate(one, rate)
        return limit
