"""Reads of regions as clients ask for them: by id, by key, left of a key, by key range, and many at once.

Each function takes the regions and a request and gives the response without its header. They serve the leader and, over the
copy it has, a member that follows: there an empty answer is an error, because the copy may lack what the leader knows.

One answer names a bounded number of regions. A scan that would name more is refused instead of cut short: its caller would
take the end of the answer for the end of its range.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from core_py.errors import PdError
from pd_py.cluster.convert import leader_pb, peer_pb, region_pb
from pd_py.cluster.regions import Regions
from pd_py.schedule.view import RegionView
from protos.kvproto import pdpb_pb2

REGIONS_MAX = 200_000
LOOKUPS_MAX = 100_000
RANGES_MAX = 100_000

Filled = pdpb_pb2.GetRegionResponse | pdpb_pb2.RegionResponse | pdpb_pb2.Region


class RegionNotFound(PdError):
    """This member's copy of the regions has no answer; pdpb.REGION_NOT_FOUND."""

    code = "PD:Cluster:RegionNotFound"


class RegionsNotContainAllKeyRange(PdError):
    """Part of a range that has to be covered belongs to no known region; pdpb.REGIONS_NOT_CONTAIN_ALL_KEY_RANGE."""

    code = "PD:Cluster:RegionsNotContainAllKeyRange"


def fill(regions: Regions, region: RegionView, out: Filled, *, need_buckets: bool = False) -> None:
    """Write a region with its leader and what is wrong with its peers."""
    out.region.CopyFrom(region_pb(region))
    out.leader.CopyFrom(leader_pb(region))
    seconds = regions.down_seconds(region.region_id)
    for peer in region.peers if seconds or region.pending else ():
        if peer.peer_id in seconds:
            out.down_peers.add(peer=peer_pb(peer), down_seconds=seconds[peer.peer_id])
        if peer.peer_id in region.pending:
            out.pending_peers.append(peer_pb(peer))
    buckets = regions.buckets.get(region.region_id) if need_buckets else None
    if buckets is not None:
        out.buckets.CopyFrom(buckets)


def _one(
    regions: Regions, region: RegionView | None, *, need_buckets: bool, is_follower: bool
) -> pdpb_pb2.GetRegionResponse:
    response = pdpb_pb2.GetRegionResponse()
    if region is not None:
        fill(regions, region, response, need_buckets=need_buckets)
    elif is_follower:
        raise RegionNotFound("region not found")
    return response


def get_region(
    regions: Regions, request: pdpb_pb2.GetRegionRequest, *, is_follower: bool = False
) -> pdpb_pb2.GetRegionResponse:
    """The region that holds a key; empty when nobody has reported one. Raises RegionNotFound at a follower."""
    region = regions.tree.find(request.region_key)
    return _one(regions, region, need_buckets=request.need_buckets, is_follower=is_follower)


def get_prev_region(
    regions: Regions, request: pdpb_pb2.GetRegionRequest, *, is_follower: bool = False
) -> pdpb_pb2.GetRegionResponse:
    """The region left of the one that holds a key. Raises RegionNotFound at a follower."""
    region = regions.tree.find_previous(request.region_key)
    return _one(regions, region, need_buckets=request.need_buckets, is_follower=is_follower)


def get_region_by_id(
    regions: Regions, request: pdpb_pb2.GetRegionByIDRequest, *, is_follower: bool = False
) -> pdpb_pb2.GetRegionResponse:
    """A region by id. Raises RegionNotFound at a follower, and PdError for the id 0."""
    if not request.region_id:
        raise PdError("invalid region id 0")
    region = regions.tree.get(request.region_id)
    return _one(regions, region, need_buckets=request.need_buckets, is_follower=is_follower)


def query_region(regions: Regions, request: pdpb_pb2.QueryRegionRequest) -> pdpb_pb2.QueryRegionResponse:
    """Many lookups in one message; an id of 0 says that there is no such region. Raises PdError for too many."""
    if len(request.ids) + len(request.keys) + len(request.prev_keys) > LOOKUPS_MAX:
        raise PdError(f"more than {LOOKUPS_MAX} lookups in one request")
    tree = regions.tree
    response = pdpb_pb2.QueryRegionResponse()
    found = {region_id: region for region_id in request.ids if (region := tree.get(region_id)) is not None}
    for keys, find, out in (
        (request.keys, tree.find, response.key_id_map),
        (request.prev_keys, tree.find_previous, response.prev_key_id_map),
    ):
        for key in keys:
            region = find(key)
            out.append(0 if region is None else region.region_id)
            if region is not None:
                found[region.region_id] = region
    for region_id, region in sorted(found.items()):
        fill(regions, region, response.regions_by_id[region_id], need_buckets=request.need_buckets)
    return response


def scan_regions(
    regions: Regions, request: pdpb_pb2.ScanRegionsRequest, *, is_follower: bool = False
) -> pdpb_pb2.ScanRegionsResponse:
    """Regions of a key range, in all three of the response's forms. Raises PdError, RegionNotFound at a follower."""
    found = _scan(regions, request.start_key, request.end_key, request.limit)
    if is_follower and not found:
        raise RegionNotFound("region not found")
    response = pdpb_pb2.ScanRegionsResponse()
    for region in found:
        one = response.regions.add()
        fill(regions, region, one)
        response.region_metas.append(one.region)
        response.leaders.append(one.leader)
    return response


def _scan(regions: Regions, start: bytes, end: bytes, limit: int) -> Sequence[RegionView]:
    found = regions.tree.scan(start, end, limit if 0 < limit <= REGIONS_MAX else REGIONS_MAX + 1)
    if len(found) > REGIONS_MAX:
        raise PdError(f"the range holds more than {REGIONS_MAX} regions; scan it with a limit")
    return found


def batch_scan_regions(
    regions: Regions, request: pdpb_pb2.BatchScanRegionsRequest, *, is_follower: bool = False
) -> pdpb_pb2.BatchScanRegionsResponse:
    """Regions of several ranges, each region once. Raises PdError, RegionsNotContainAllKeyRange, RegionNotFound at a follower."""
    ranges = _merged(request.ranges)
    limit = request.limit if 0 < request.limit <= REGIONS_MAX else REGIONS_MAX + 1
    found: list[RegionView] = []
    for start, end in ranges:
        left = limit - len(found)
        # The first region of a range may be the last of the range before: one more is looked for than there is room.
        part = regions.tree.scan(start, end, left + 1)
        if request.contain_all_key_range:
            _require_cover(part, start, end, is_whole=len(part) <= left)
        if found and part and part[0].region_id == found[-1].region_id:
            part = part[1:]
        found += part
        if len(found) >= limit:
            break
    if len(found) > REGIONS_MAX:
        raise PdError(f"the ranges hold more than {REGIONS_MAX} regions; scan them with a limit")
    if is_follower and not found:
        raise RegionNotFound("region not found")
    response = pdpb_pb2.BatchScanRegionsResponse()
    for region in found[:limit]:
        fill(regions, region, response.regions.add(), need_buckets=request.need_buckets)
    return response


def _merged(ranges: Iterable[pdpb_pb2.KeyRange]) -> list[tuple[bytes, bytes]]:
    """The ranges, adjacent ones as one. They have to be in order and apart; raises PdError."""
    merged: list[tuple[bytes, bytes]] = []
    for number, wanted in enumerate(ranges):
        if number >= RANGES_MAX:
            raise PdError(f"more than {RANGES_MAX} key ranges in one request")
        start, end = wanted.start_key, wanted.end_key
        if merged and (not merged[-1][1] or start < merged[-1][1]):
            raise PdError("invalid key range, ranges overlapped")
        if end and start > end:
            raise PdError("invalid key range, start key > end key")
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def _require_cover(part: Sequence[RegionView], start: bytes, end: bytes, *, is_whole: bool) -> None:
    """Raise RegionsNotContainAllKeyRange when a key of the range is in no region; behind the last only when all were looked at."""
    at: bytes | None = start
    for region in part:
        assert at is not None
        if region.start_key > at:
            break
        at = region.end_key or None
    else:
        if at is None or (end and at >= end) or not is_whole:
            return
    text = f"key range[{start.hex()}, {end.hex()}) found a hole region at {(at or b'').hex()}"
    raise RegionsNotContainAllKeyRange(text)
