"""The region cache: the pure map plus loading from PD.

`locate_key` and its relatives take *user* keys and encode them by the cache's codec, so that one code serves raw and transactional
data. Concurrent loads of one key are one call to PD. Reactions to region errors (`invalidate`, `on_epoch_not_match`,
`switch_leader`) are here too, so that the sender does not know the map.
Does not expire entries: a stale one is found out by the store it leads to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core_py.errors import DbError, PdError, RpcError
from core_py.runtime.tasks import TaskScope
from protos.kvproto import metapb_pb2
from tikv_py.client.pd.client import PdClient, RegionInfo
from tikv_py.client.region.backoff import PD_RPC, REGION_MISS, Backoffer
from tikv_py.client.region.regions import KeyCodec, Region, RegionMap
from tikv_py.client.rpc.stats import RegionCacheStats

SCAN_BATCH = 128
KeyRange = tuple[bytes, bytes]


class RegionCache:
    """Where keys live, as far as this client knows."""

    def __init__(self, pd: PdClient, scope: TaskScope, codec: KeyCodec) -> None:
        self._pd, self._scope, self.codec = pd, scope, codec
        self._map = RegionMap()
        self.stats = RegionCacheStats()
        self._loading: dict[tuple[str, bytes, bytes], asyncio.Task[list[Region] | DbError]] = {}

    # ---- finding ----

    async def locate_key(self, key: bytes, backoffer: Backoffer) -> Region:
        """The region holding a user key."""
        physical = self.codec.encode(key)
        found = self._map.locate(physical)
        if found is not None:
            return found
        return (await self._load("key", physical, b"", backoffer))[0]

    async def locate_end_key(self, key: bytes, backoffer: Backoffer) -> Region:
        """The region holding the user keys just below `key` (empty = plus infinity)."""
        physical = self.codec.encode(key) if key else b""
        found = self._map.locate_end(physical)
        if found is not None:
            return found
        return (await self._load("end", physical, b"", backoffer))[0]

    async def locate_id(self, region_id: int, backoffer: Backoffer) -> Region:
        """The region with an id."""
        found = self._map.get(region_id)
        if found is not None:
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
        for key in ordered:
            physical = self.codec.encode(key)
            if last is None or not last.contains(physical):
                found = self._map.locate(physical)
                if found is None:
                    upper = self.codec.encode(ordered[-1]) + b"\0"
                    found = (await self._load("range", physical, upper, backoffer))[0]
                last = found
                groups.append((last, []))
            groups[-1][1].append(key)
        return groups

    async def split_ranges_by_region(
        self, ranges: Sequence[KeyRange], backoffer: Backoffer
    ) -> list[tuple[Region, list[KeyRange]]]:
        """Cut ordered, non-overlapping user key ranges at region bounds. Whole ranges are passed on as they are."""
        groups: list[tuple[Region, list[KeyRange]]] = []
        last: Region | None = None
        limit = self.codec.encode(ranges[-1][1]) if ranges and ranges[-1][1] else b""
        for item in ranges:
            start, end = item
            while True:
                if last is None or (last.end and start >= last.end) or start < last.start:
                    physical = self.codec.encode(start) if start else b""
                    last = self._map.locate(physical)
                    if last is None:
                        last = (await self._load("range", physical, limit, backoffer))[0]
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

    async def _load(self, kind: str, low: bytes, high: bytes, backoffer: Backoffer) -> list[Region]:
        """Regions from PD; the first is the one asked for. Retries within the backoffer's budget."""
        while True:
            task = self._loading.get((kind, low, high))
            if task is None:
                task = self._scope.spawn(self._load_once(kind, low, high), name="load region")
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

    async def _load_once(self, kind: str, low: bytes, high: bytes) -> list[Region] | DbError:
        try:
            infos = await self._ask(kind, low, high)
        except DbError as error:
            return error
        finally:
            self._loading.pop((kind, low, high), None)
        return [self._take(info) for info in infos if info.region.peers]

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
        if self._map.insert(region):
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
        self.invalidate(region)
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
                self._map.set_leader(region, peer)
                return True
        self.invalidate(region)
        return False

    def check_invariants(self) -> None:
        """For tests."""
        self._map.check_invariants()


def _some(info: RegionInfo | None) -> list[RegionInfo]:
    return [] if info is None else [info]
