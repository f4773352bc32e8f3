"""Which replicas carry a noteworthy flow, from what regions and stores report.

A replica enters when its rate passes its store's threshold: the public minimum, or once a store has many hot replicas, most
of what the last of the best has. Rates are the median of the last few report intervals, so one burst does not make a hot
spot. A replica that stays hot gains a degree with each interval; one that cools loses degrees and, when its patience (the
anti-count) is used up, leaves. One that is not reported at all leaves after three intervals. A new replica of a hot region
inherits what was known, so that moving a hot spot does not hide it.

A write reaches every replica of a region; a read only the one that served it, which is the leader unless the store itself
says otherwise (`observe_store`). Reports that cover less than three seconds say nothing. Pure; time is given.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pd_py.schedule.view import FlowKind, HotPeer, RegionView

REPORT_INTERVAL_S = {FlowKind.WRITE: 60, FlowKind.READ: 10}
MIN_RATES = {FlowKind.WRITE: (1024.0, 32.0, 32.0), FlowKind.READ: (8 * 1024.0, 128.0, 128.0)}
"""Bytes, keys and queries per second, as in the public server."""
ANTI_COUNT = {FlowKind.WRITE: 2, FlowKind.READ: 12}
MIN_REPORT_S = 3
WINDOW = 5
TOP_N = 60
THRESHOLD_RATIO = 0.8
THRESHOLD_AGE_S = 8.0
KEPT_INTERVALS = 3

Rates = tuple[float, float, float]
NO_RATES: Rates = (0.0, 0.0, 0.0)


@dataclass(slots=True)
class _Hot:
    """One replica."""

    region_id: int
    store_id: int
    reported_at: float
    is_leader: bool = False
    degree: int = 0
    patience: int = 0
    inheritable: bool = False
    is_cold: bool = False
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    seconds: int = 0
    rates: Rates = NO_RATES
    """Smoothed over the windows; before the first full interval what there is."""
    windows: tuple[deque[float], deque[float], deque[float]] = field(
        default_factory=lambda: (deque(maxlen=WINDOW), deque(maxlen=WINDOW), deque(maxlen=WINDOW))
    )


class HotCache:
    """Hot replicas of one kind of flow, by store."""

    def __init__(self, kind: FlowKind) -> None:
        self.kind = kind
        self._interval_s = REPORT_INTERVAL_S[kind]
        self._minimum = MIN_RATES[kind]
        self._by_store: dict[int, dict[int, _Hot]] = {}
        self._stores_of: dict[int, set[int]] = {}
        self._thresholds: dict[int, tuple[float, Rates]] = {}
        self._swept_at = 0.0
        self._tell_themselves: set[int] = set()
        """Stores that report their replicas' reads: what their leaders' heartbeats say would count twice."""

    def __len__(self) -> int:
        return sum(map(len, self._by_store.values()))

    def hot_peers(self) -> Mapping[int, Sequence[HotPeer]]:
        """Replicas that have been hot for at least one interval and are not cooling, by store."""
        return {
            store_id: [self._peer(hot) for hot in peers.values() if hot.degree > 0 and self._is_firm(hot)]
            for store_id, peers in sorted(self._by_store.items())
        }

    def _is_firm(self, hot: _Hot) -> bool:
        return not hot.is_cold and hot.patience == ANTI_COUNT[self.kind]

    @staticmethod
    def _peer(hot: _Hot) -> HotPeer:
        return HotPeer(hot.region_id, hot.store_id, hot.is_leader, *hot.rates, hot.degree)

    def observe(self, region: RegionView, old: RegionView | None, now: float) -> None:
        """A leader reported its region; `old` is the view before."""
        seconds = region.interval_s
        if self.kind is FlowKind.WRITE:
            moved = (float(region.written_bytes), float(region.written_keys), 0.0)
        else:
            moved = (float(region.read_bytes), float(region.read_keys), 0.0)
        known = self._stores_of.get(region.region_id)
        if known is None:
            least = self._minimum
            if seconds < MIN_REPORT_S or (moved[0] < least[0] * seconds and moved[1] < least[1] * seconds):
                return
        else:
            self._follow(region, known, now)
        if seconds < MIN_REPORT_S:
            return
        led_elsewhere = old is not None and old.leader_store_id != region.leader_store_id
        if self.kind is FlowKind.WRITE:
            for peer in region.peers:
                self._flow(region, peer.store_id, moved, seconds, now, skip=led_elsewhere)
        elif region.leader_store_id not in self._tell_themselves:
            self._flow(region, region.leader_store_id, moved, seconds, now, skip=False)
            if led_elsewhere and old is not None and old.leader_store_id not in self._tell_themselves:
                self._drop(region.region_id, old.leader_store_id)
        self.sweep(now)

    def observe_store(
        self, store_id: int, flows: Iterable[tuple[RegionView, float, float, float]], seconds: int, now: float
    ) -> None:
        """A store reported (region, bytes, keys, queries) of the replicas it served; those it does not name have become cold."""
        if seconds < MIN_REPORT_S:
            return
        self._tell_themselves.add(store_id)
        named: set[int] = set()
        for region, moved_bytes, keys, queries in flows:
            named.add(region.region_id)
            self._flow(region, store_id, (moved_bytes, keys, queries), seconds, now, skip=False)
        for region_id in [one for one in self._by_store.get(store_id, {}) if one not in named]:
            hot = self._by_store[store_id][region_id]
            hot.is_cold = True
            self._advance(hot, (0.0, 0.0, 0.0), seconds, now)
        self.sweep(now)

    def _flow(self, region: RegionView, store_id: int, moved: Rates, seconds: int, now: float, *, skip: bool) -> None:
        hot = self._by_store.get(store_id, {}).get(region.region_id)
        if hot is None:
            least = self._least(store_id, now)
            if all(amount < rate * seconds or not amount for amount, rate in zip(moved, least, strict=True)):
                return
            hot = _Hot(region.region_id, store_id, now)
            self._add(hot)
        hot.is_leader = region.leader_store_id == store_id
        hot.is_cold = False
        hot.reported_at = now
        if not skip:  # the first report of a new leader counts from when the old one began
            self._advance(hot, moved, seconds, now)

    def _advance(self, hot: _Hot, moved: Rates, seconds: int, now: float) -> None:
        """Add flow; at the end of a report interval decide whether it was hot."""
        hot.seconds += seconds
        for dimension, amount in enumerate(moved):
            hot.sums[dimension] += amount
        if hot.seconds < self._interval_s:
            if not hot.windows[0]:
                hot.rates = (hot.sums[0] / hot.seconds, hot.sums[1] / hot.seconds, hot.sums[2] / hot.seconds)
            return
        least = self._least(hot.store_id, now)
        rates = [amount / hot.seconds for amount in hot.sums]
        is_hot = not hot.is_cold and any(rate and rate >= low for rate, low in zip(rates, least, strict=True))
        for window, rate in zip(hot.windows, rates, strict=True):
            window.append(rate)
        hot.rates = (median(hot.windows[0]), median(hot.windows[1]), median(hot.windows[2]))
        hot.sums, hot.seconds = [0.0, 0.0, 0.0], 0
        full = ANTI_COUNT[self.kind]
        if is_hot:
            hot.patience = min(hot.patience + 1, full) if hot.inheritable else full
            hot.degree += 1
            hot.inheritable = True
            return
        hot.degree -= 1
        hot.patience -= 1
        if hot.patience <= 0:
            self._drop(hot.region_id, hot.store_id)

    def _least(self, store_id: int, now: float) -> Rates:
        """The rates from which a replica on a store is hot; looked at anew every few seconds."""
        known = self._thresholds.get(store_id)
        if known is not None and now - known[0] <= THRESHOLD_AGE_S:
            return known[1]
        peers = self._by_store.get(store_id, {})
        low = self._minimum
        if len(peers) >= TOP_N:
            low_bytes, low_keys, low_queries = (
                max(
                    self._minimum[dimension],
                    THRESHOLD_RATIO * heapq.nlargest(TOP_N, [hot.rates[dimension] for hot in peers.values()])[-1],
                )
                for dimension in range(3)
            )
            low = (low_bytes, low_keys, low_queries)
        self._thresholds[store_id] = (now, low)
        return low

    def _copy(self, known: _Hot, store_id: int, now: float) -> None:
        first, second, third = (deque(window, maxlen=WINDOW) for window in known.windows)
        hot = _Hot(
            known.region_id, store_id, now, degree=known.degree, patience=known.patience, windows=(first, second, third)
        )
        hot.rates = known.rates
        self._add(hot)

    def _follow(self, region: RegionView, known: set[int], now: float) -> None:
        """Replicas that were not there before take over what is known of the region; those that left are dropped."""
        holders = [peer.store_id for peer in region.peers]
        carriers = holders if self.kind is FlowKind.WRITE else [region.leader_store_id]
        gone = known.difference(holders)
        if gone or not known.issuperset(carriers):
            peers = [self._by_store[store_id][region.region_id] for store_id in sorted(known)]
            source = next((hot for hot in peers if hot.inheritable), None)
            if source is not None:
                for store_id in carriers:
                    if store_id not in known and store_id not in self._tell_themselves:
                        self._copy(source, store_id, now)
            for store_id in gone:
                self._drop(region.region_id, store_id)

    def _add(self, hot: _Hot) -> None:
        self._by_store.setdefault(hot.store_id, {})[hot.region_id] = hot
        self._stores_of.setdefault(hot.region_id, set()).add(hot.store_id)

    def _drop(self, region_id: int, store_id: int) -> None:
        if self._by_store.get(store_id, {}).pop(region_id, None) is None:
            return
        stores = self._stores_of[region_id]
        stores.discard(store_id)
        if not stores:
            del self._stores_of[region_id]

    def forget_region(self, region_id: int) -> None:
        """A region is gone."""
        for store_id in list(self._stores_of.get(region_id, ())):
            self._drop(region_id, store_id)

    def forget_store(self, store_id: int) -> None:
        """A store is gone."""
        for region_id in list(self._by_store.get(store_id, ())):
            self._drop(region_id, store_id)
        self._by_store.pop(store_id, None)
        self._thresholds.pop(store_id, None)
        self._tell_themselves.discard(store_id)

    def sweep(self, now: float) -> None:
        """Drop what has not been reported for three intervals; does nothing when it was done lately."""
        kept_s = KEPT_INTERVALS * self._interval_s
        if now - self._swept_at < kept_s:
            return
        self._swept_at = now
        for peers in list(self._by_store.values()):
            for hot in [hot for hot in peers.values() if now - hot.reported_at > kept_s]:
                self._drop(hot.region_id, hot.store_id)


def median(values: Iterable[float]) -> float:
    """The middle of a few values, the mean of the middle two of an even number."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
