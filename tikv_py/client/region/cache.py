"""The region cache: the pure map plus loading from PD.

`locate_key` and its relatives take *user* keys and encode them by the cache's codec, so that one code serves raw and transactional
data. Concurrent loads of one key are one call to PD; the regions of many keys or ranges come by one call, too. Reactions to region
errors (`invalidate`, `on_epoch_not_match`, `switch_leader`) are here, so that the sender does not know the map.

A region is found out to be stale by the store it leads to. Besides that, one that nobody used for ten minutes is asked for again,
and the number of regions is bounded. `refresh` asks PD for a leader in the background, while requests look for it themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core_py.errors import DbError, PdError, RpcError
from core_py.runtime.tasks import TaskScope
from protos.kvproto import metapb_pb2
from tikv_py.client.pd.client import PdClient, RegionInfo
from tikv_py.client.region.backoff import PD_RPC, REGION_MISS, Backoffer
from tikv_py.client.region.regions import MAX_REGIONS, TTL_S, KeyCodec, Region, RegionMap
from tikv_py.client.rpc.stats import RegionCacheStats

SCAN_BATCH = 128
MAX_RANGES = 128  # ranges in one question to PD; more are sampled, and the rest is found behind them
MAX_REFRESHED = 1000
REFRESH_EVERY_S = 0.5  # a region's leader is asked for in the background at most so often
KeyRange = tuple[bytes, bytes]


class RegionCache:
    """Where keys live, as far as this client knows."""

    def __init__(
        self, pd: PdClient, scope: TaskScope, codec: KeyCodec, *, max_regions: int = MAX_REGIONS, ttl_s: float = TTL_S
    ) -> None:
        self._pd, self._scope, self.codec = pd, scope, codec
        self._map = RegionMap(max_regions, ttl_s)
        self.stats = RegionCacheStats()
        self._loading: dict[tuple[str, bytes, bytes], asyncio.Task[list[Region] | DbError]] = {}
        self._has_batch_scan = True
        self._refreshed_at: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._map)

    # ---- finding ----

    async def locate_key(self, key: bytes, backoffer: Backoffer) -> Region:
        """The region holding a user key."""
        physical = self.codec.encode(key)
        found = self._map.locate(physical)
        if found is not None and self._map.use(found, asyncio.get_running_loop().time()):
            return found
        return (await self._load("key", physical, b"", backoffer))[0]

    async def locate_end_key(self, key: bytes, backoffer: Backoffer) -> Region:
        """The region holding the user keys just below `key` (empty = plus infinity)."""
        physical = self.codec.encode(key) if key else b""
        found = self._map.locate_end(physical)
        if found is not None and self._map.use(found, asyncio.get_running_loop().time()):
            return found
        return (await self._load("end", physical, b"", backoffer))[0]

    async def locate_id(self, region_id: int, backoffer: Backoffer) -> Region:
        """The region with an id."""
        found = self._map.get(region_id)
        if found is not None and self._map.use(found, asyncio.get_running_loop().time()):
            return found
        return (await self._load("id", region_id.to_bytes(8, "big"), b"", backoffer))[0]

    def peek(self, region_id: int) -> Region | None:
        """The cached view of a region."""
        return self._map.get(region_id)

    def newest(self, region: Region) -> Region | None:
        """The cached view of this version of the region with the leader believed in now.

        The view itself when nothing is cached; None when another version is cached.
        """
        known = self._map.get(region.id)
        if known is None or known is region:
            return region
        return known if known.same_epoch(region) else None

    async def group_keys_by_region(
        self, keys: Sequence[bytes], backoffer: Backoffer
    ) -> list[tuple[Region, list[bytes]]]:
        """Sort user keys into their regions; within a region they are in order. Duplicates stay."""
        groups: list[tuple[Region, list[bytes]]] = []
        last: Region | None = None
        ordered = sorted(keys)
        for number, key in enumerate(ordered):
            physical = self.codec.encode(key)
            if last is None or not last.contains(physical):
                last = self._find(physical)
                if last is None:
                    last = await self._load_ranges(self._missing_points(ordered[number:]), backoffer)
                groups.append((last, []))
            groups[-1][1].append(key)
        return groups

    def _find(self, physical: bytes) -> Region | None:
        found = self._map.locate(physical)
        if found is not None and self._map.use(found, asyncio.get_running_loop().time()):
            return found
        return None

    def _missing_points(self, ordered: Sequence[bytes]) -> list[KeyRange]:
        """The first of the keys and a sample of the others whose regions are not known, as ranges of one key."""
        points = [self.codec.encode(ordered[0])]
        step = max(1, len(ordered) // (MAX_RANGES - 1))
        for key in ordered[step::step]:
            physical = self.codec.encode(key)
            if physical != points[-1] and self._map.locate(physical) is None:
                points.append(physical)
        return [(point, point + b"\0") for point in points[:MAX_RANGES]]

    async def split_ranges_by_region(
        self, ranges: Sequence[KeyRange], backoffer: Backoffer
    ) -> list[tuple[Region, list[KeyRange]]]:
        """Cut ordered, non-overlapping user key ranges at region bounds. Whole ranges are passed on as they are."""
        groups: list[tuple[Region, list[KeyRange]]] = []
        last: Region | None = None
        for number, item in enumerate(ranges):
            start, end = item
            while True:
                if last is None or (last.end and start >= last.end) or start < last.start:
                    physical = self.codec.encode(start) if start else b""
                    last = self._find(physical)
                    if last is None:
                        wanted = [(start, end), *ranges[number + 1 : number + MAX_RANGES]]
                        last = await self._load_ranges([self._physical(one) for one in wanted], backoffer)
                    groups.append((last, []))
                if not last.end or (end and end <= last.end):
                    groups[-1][1].append(item if item[0] is start else (start, end))
                    break
                groups[-1][1].append((start, last.end))
                start = last.end
        return groups

    async def regions_of_range(self, start: bytes, end: bytes, backoffer: Backoffer) -> list[Region]:
        """All regions that overlap a user key range, in order."""
        return [region for region, _ in await self.split_ranges_by_region([(start, end)], backoffer)]

    # ---- loading ----

    def _physical(self, wanted: KeyRange) -> KeyRange:
        start, end = wanted
        return self.codec.encode(start) if start else b"", self.codec.encode(end) if end else b""

    def refresh(self, region: Region) -> None:
        """Ask PD in the background who leads a region; PD is believed when it names a leader."""
        now_s = asyncio.get_running_loop().time()
        kind = ("key", region.start_key, b"")
        if kind in self._loading or now_s - self._refreshed_at.get(region.id, -REFRESH_EVERY_S) < REFRESH_EVERY_S:
            return
        if len(self._refreshed_at) >= MAX_REFRESHED:
            self._refreshed_at.clear()
        self._refreshed_at[region.id] = now_s
        self._loading[kind] = self._scope.spawn(self._load_once(*kind), name="refresh region")

    async def _load_ranges(self, ranges: Sequence[KeyRange], backoffer: Backoffer) -> Region:
        """Load regions of several physical ranges; returns the one at the start of the first."""
        kind = "ranges" if len(ranges) > 1 and self._has_batch_scan else "range"
        found = await self._load(kind, ranges[0][0], ranges[-1][1], backoffer, ranges)
        return found[0]

    async def _load(
        self, kind: str, low: bytes, high: bytes, backoffer: Backoffer, ranges: Sequence[KeyRange] = ()
    ) -> list[Region]:
        """Regions from PD; the first is the one asked for. Retries within the backoffer's budget."""
        while True:
            task = self._loading.get((kind, low, high))
            if task is None:
                task = self._scope.spawn(self._load_once(kind, low, high, ranges), name="load region")
                self._loading[kind, low, high] = task
            outcome = await asyncio.shield(task)
            if isinstance(outcome, PdError | RpcError):
                await backoffer.backoff(PD_RPC, outcome)
            elif isinstance(outcome, DbError):
                raise outcome
            elif not outcome:
                await backoffer.backoff(REGION_MISS, f"PD knows no region for {kind} {low.hex() or '-inf'}")
            else:
                return outcome

    async def _load_once(
        self, kind: str, low: bytes, high: bytes, ranges: Sequence[KeyRange] = ()
    ) -> list[Region] | DbError:
        self.stats.loads[kind] += 1
        try:
            infos = await (self._ask_ranges(ranges) if kind == "ranges" else self._ask(kind, low, high))
        except DbError as error:
            return error
        finally:
            self._loading.pop((kind, low, high), None)
        return [self._take(info) for info in infos if info.region.peers]

    async def _ask_ranges(self, ranges: Sequence[KeyRange]) -> list[RegionInfo]:
        low = ranges[0][0]
        try:
            found = await self._pd.batch_scan_regions(ranges, SCAN_BATCH)
        except RpcError as error:
            if error.status != "UNIMPLEMENTED":
                raise
            self._has_batch_scan = False
            return await self._ask("range", low, ranges[-1][1])
        holds = bool(found) and found[0].region.start_key <= low
        return found if holds else await self._ask("key", low, b"")

    async def _ask(self, kind: str, low: bytes, high: bytes) -> list[RegionInfo]:
        if kind == "range":
            found = await self._pd.scan_regions(low, high, SCAN_BATCH)
            holds = bool(found) and found[0].region.start_key <= low
            return found if holds else await self._ask("key", low, b"")
        if kind == "id":
            return _some(await self._pd.get_region_by_id(int.from_bytes(low, "big")))
        if kind == "end":
            return await self._ask_end(low)
        return _some(await self._pd.get_region(low))

    async def _ask_end(self, key: bytes) -> list[RegionInfo]:
        """PD finds the left neighbour of a region, so a key within a region needs the region itself."""
        if not key:
            return _some(await self._last_region())
        info = await self._pd.get_region(key)
        if info is None or info.region.start_key < key:
            return _some(info)
        return _some(await self._pd.get_prev_region(key))

    async def _last_region(self) -> RegionInfo | None:
        """The region without an end. PD has no call for it: ask for a key above all usual ones, then walk right."""
        info = await self._pd.get_region(b"\xff" * 64)
        while info is not None and info.region.end_key:
            info = await self._pd.get_region(info.region.end_key)
        return info

    def _take(self, info: RegionInfo) -> Region:
        region = Region.of(info.region, info.leader, self.codec)
        now_s = asyncio.get_running_loop().time()
        known = self._map.get(region.id)
        if info.leader is None and known is not None and known.same_epoch(region):
            return known  # nothing new, and who leads is known better here
        if self._map.insert(region, now_s, is_worn=bool(info.down_peers)):
            self.stats.evictions += self._map.sweep(now_s)
            return region
        known = self._map.locate(region.start_key)
        return known if known is not None and known.same_epoch(region) else region

    # ---- learning from failures ----

    def insert(self, meta: metapb_pb2.Region, leader: metapb_pb2.Peer | None = None) -> Region:
        """Take in a region learnt elsewhere (a split's answer)."""
        return self._take(RegionInfo(meta, leader))

    def invalidate(self, region: Region, reason: str = "asked") -> None:
        """Forget this version of a region; the reason is counted."""
        known = self._map.get(region.id)
        if known is not None and known.same_epoch(region):
            self._map.remove(region.id)
            self.stats.invalidations[reason] += 1

    def on_epoch_not_match(self, region: Region, current: Sequence[metapb_pb2.Region]) -> bool:
        """Take in what a store says stands in the region's place; False when the store itself is behind."""
        for meta in current:
            epoch = meta.region_epoch
            if meta.id == region.id and (epoch.conf_ver < region.conf_ver or epoch.version < region.version):
                return False
        self.invalidate(region, "epoch_not_match")
        store_id = region.leader.store_id
        for meta in current:
            leader = next((peer for peer in meta.peers if peer.store_id == store_id), None)
            if meta.peers:
                self._map.insert(Region.of(meta, leader, self.codec))
        return True

    def switch_leader(self, region: Region, leader: metapb_pb2.Peer) -> bool:
        """Believe a store that names the leader; a peer this view does not have makes the view stale (False)."""
        for peer in region.meta.peers:
            if peer.id == leader.id and peer.store_id == leader.store_id:
                if self._map.set_leader(region, peer):
                    self.stats.leader_switches += 1
                return True
        self.invalidate(region, "leader is no peer")
        return False

    def check_invariants(self) -> None:
        """For tests."""
        self._map.check_invariants()


def _some(info: RegionInfo | None) -> list[RegionInfo]:
    return [] if info is None else [info]
