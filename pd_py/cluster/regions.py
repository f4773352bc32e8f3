"""Everything that is known of regions, kept in step: the tree, states worth noticing, hot replicas, buckets.

A report goes through `heartbeat` or `split`; a region that a newer one displaces leaves every part at once. Listeners hear
of regions whose meta changed (what a store would write down), so that they can be kept on disk and sent to other members;
reports that change only sizes and flows do not reach them. Pure; time is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from pd_py.cluster.buckets import BucketCache
from pd_py.cluster.convert import (
    IMPOSSIBLE_FLOW,
    down_seconds,
    heartbeat_view,
    interval_seconds,
    region_view,
    synced_view,
)
from pd_py.cluster.hot_cache import HotCache
from pd_py.cluster.long_lived import LongLived, no_collection
from pd_py.cluster.region_statistics import RegionStatistics
from pd_py.cluster.region_tree import RegionTree
from pd_py.schedule.view import FlowKind, RegionView
from protos.kvproto import metapb_pb2, pdpb_pb2

RegionListener = Callable[[RegionView], None]

_NOBODY: Mapping[int, int] = {}


class Regions:
    """The regions of a cluster. A peer counts as down after `down_peer_s` seconds of silence."""

    def __init__(self, statistics: RegionStatistics, down_peer_s: float) -> None:
        self.tree = RegionTree(self._displaced)
        self.statistics = statistics
        self.hot = {kind: HotCache(kind) for kind in FlowKind}
        self.buckets = BucketCache()
        self.down_peer_s = down_peer_s
        self.on_meta: list[RegionListener] = []
        """Told of a region that is new or whose range, epoch or peers changed."""
        self.on_change: list[RegionListener] = []
        """Told of the same, and of a region whose leader, silent or lagging peers changed: what a copy for reads follows."""
        self.on_gone: list[RegionListener] = []
        """Told of a region that a newer one displaced."""
        self._down_seconds: dict[int, Mapping[int, int]] = {}
        self._long_lived = LongLived()

    def heartbeat(self, request: pdpb_pb2.RegionHeartbeatRequest, now: float) -> RegionView | None:
        """A leader reported its region; None when something newer is known. Raises InvalidRegion."""
        tree = self.tree
        old = tree.get(request.region.id)
        region = heartbeat_view(request, old, self.down_peer_s)
        if not tree.put(region):
            return None
        self.statistics.observe(region, old)
        for cache in self.hot.values():
            cache.observe(region, old, now)
        down = down_seconds(request, region.peers) if request.down_peers else _NOBODY
        changed = self._set_down(region.region_id, down) if down or self._down_seconds else False
        self._tell(region, old, is_changed=changed)
        return region

    def report_buckets(self, buckets: metapb_pb2.Buckets) -> bool:
        """A leader reported its region's buckets; False when they are old, too many, or of an unknown region."""
        return self.tree.get(buckets.region_id) is not None and self.buckets.report(buckets)

    def store_reads(self, stats: pdpb_pb2.StoreStats, now: float) -> None:
        """A store said what each of its replicas was read."""
        flows = []
        for peer in stats.peer_stats:
            region = self.tree.get(peer.region_id)
            if region is not None and max(peer.read_bytes, peer.read_keys) < IMPOSSIBLE_FLOW:
                queries = peer.query_stats
                asked = min(queries.Get + queries.Scan + queries.Coprocessor, IMPOSSIBLE_FLOW)
                flows.append((region, float(peer.read_bytes), float(peer.read_keys), float(asked)))
        self.hot[FlowKind.READ].observe_store(stats.store_id, flows, interval_seconds(stats.interval), now)

    def put(self, region: RegionView) -> bool:
        """Take in a region that another member or the disk knows; False when something newer is known."""
        old = self.tree.get(region.region_id)
        if not self.tree.put(region):
            return False
        self.statistics.observe(region, old)
        self._tell(region, old, is_changed=False)
        return True

    def _set_down(self, region_id: int, seconds: Mapping[int, int]) -> bool:
        """Note for how long peers have been silent; True when others are silent than before."""
        before = self._down_seconds.get(region_id, _NOBODY)
        if seconds:
            self._down_seconds[region_id] = seconds
        elif before:
            del self._down_seconds[region_id]
        return before.keys() != seconds.keys()

    def _tell(self, region: RegionView, old: RegionView | None, *, is_changed: bool) -> None:
        if (
            old is None
            or region.peers is not old.peers
            or region.version != old.version
            or region.conf_ver != old.conf_ver
            or region.end_key != old.end_key
            or region.start_key != old.start_key
        ):
            for listener in self.on_meta:
                listener(region)
        elif not is_changed and region.leader_store_id == old.leader_store_id and region.pending == old.pending:
            return
        for listener in self.on_change:
            listener(region)

    def put_synced(self, message: pdpb_pb2.SyncRegionResponse, number: int) -> bool:
        """Take in one region as the leading member sends it; False when something newer is known. Raises InvalidRegion."""
        old = self.tree.get(message.regions[number].id)
        region, down_seconds = synced_view(message, number, old, self.down_peer_s)
        if not self.put(region):
            return False
        if down_seconds or self._down_seconds:
            self._set_down(region.region_id, down_seconds)
        return True

    def load(self, regions: Sequence[RegionView]) -> None:
        """Take in what was known before a restart; listeners are not told."""
        with no_collection():
            self.tree.load(regions)
            for region in regions:
                if self.tree.get(region.region_id) is region:
                    self.statistics.observe(region, None)

    def split(self, parts: Iterable[metapb_pb2.Region]) -> None:
        """A finished split, known before its heartbeats come; the parts share what the region held and where it was led.

        Raises InvalidRegion, and changes nothing then.
        """
        views = [region_view(part) for part in parts]
        known = (old for view in views if (old := self.tree.get(view.region_id)) is not None)
        whole = next(known, None)
        for view in views:
            old = self.tree.get(view.region_id)
            if old is not None and view.version <= old.version:
                continue
            if whole is not None:
                view = replace(
                    view,
                    leader_store_id=whole.leader_store_id,
                    size_bytes=whole.size_bytes // len(views),
                    keys=whole.keys // len(views),
                    term=old.term if old is not None else 0,
                )
            self.put(view)

    def settle(self) -> None:
        """Set aside what has come to stay; to be called now and then."""
        self._long_lived.note(len(self.tree))

    def down_seconds(self, region_id: int) -> Mapping[int, int]:
        """For how long the silent peers of a region have been silent, by peer id."""
        return self._down_seconds.get(region_id, _NOBODY)

    def _displaced(self, region: RegionView) -> None:
        region_id = region.region_id
        self.statistics.forget(region_id)
        for cache in self.hot.values():
            cache.forget_region(region_id)
        self.buckets.forget(region_id)
        self._down_seconds.pop(region_id, None)
        for listener in self.on_gone:
            listener(region)
