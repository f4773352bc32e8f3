"""Regions in their public JSON shape, and answers with many of them that do not hold up the loop. Keys are in hex, upper case."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web

from pd_py.api.backend import RegionSource
from pd_py.api.requests import answer
from pd_py.schedule.view import PeerView, RegionView, Role

PAGE = 256
"""Regions between two turns of the loop."""
MIB = 1 << 20
_ROLE_NAMES = {
    Role.VOTER: "Voter",
    Role.LEARNER: "Learner",
    Role.INCOMING_VOTER: "IncomingVoter",
    Role.DEMOTING_VOTER: "DemotingVoter",
}


def peer_json(peer: PeerView) -> dict[str, Any]:
    """A replica."""
    out: dict[str, Any] = {"role_name": _ROLE_NAMES[peer.role]}
    if peer.role is Role.LEARNER:
        out["is_learner"] = True
    out["id"] = peer.peer_id
    out["store_id"] = peer.store_id
    if peer.role:
        out["role"] = int(peer.role)
    return out


def region_json(region: RegionView, down_seconds: Mapping[int, int]) -> dict[str, Any]:
    """A region."""
    out: dict[str, Any] = {
        "id": region.region_id,
        "start_key": region.start_key.hex().upper(),
        "end_key": region.end_key.hex().upper(),
        "epoch": {"conf_ver": region.conf_ver, "version": region.version},
        "peers": [peer_json(peer) for peer in region.peers],
    }
    leader = region.on_store(region.leader_store_id)
    out["leader"] = {"role_name": ""} if leader is None else peer_json(leader)
    down = [
        {"peer": peer_json(peer), "down_seconds": down_seconds.get(peer.peer_id, 0)}
        for peer in region.peers
        if peer.peer_id in down_seconds or peer.peer_id in region.down
    ]
    if down:
        out["down_peers"] = down
    pending = [peer_json(peer) for peer in region.peers if peer.peer_id in region.pending]
    if pending:
        out["pending_peers"] = pending
    out |= {
        "cpu_usage": 0,
        "written_bytes": region.written_bytes,
        "read_bytes": region.read_bytes,
        "written_keys": region.written_keys,
        "read_keys": region.read_keys,
        "approximate_size": approximate_mib(region),
        "approximate_keys": region.keys,
        "approximate_kv_size": approximate_mib(region),
        "approximate_columnar_kv_size": 0,
    }
    return out


def approximate_mib(region: RegionView) -> int:
    """The size in MiB; 1 for a region that is not empty but smaller, as the public server counts."""
    return max(region.size_bytes // MIB, 1) if region.size_bytes else 0


def one(source: RegionSource, region: RegionView) -> web.Response:
    """An answer with one region."""
    return answer(region_json(region, source.down_seconds(region.region_id)))


async def many(request: web.Request, source: RegionSource, regions: Sequence[RegionView]) -> web.StreamResponse:
    """An answer with regions that are known."""
    return await _stream(request, source, _in_pages(regions))


async def everything(request: web.Request, source: RegionSource) -> web.StreamResponse:
    """An answer with all regions."""
    return await _stream(request, source, pages(source))


async def _in_pages(regions: Sequence[RegionView]) -> AsyncIterator[Sequence[RegionView]]:
    for at in range(0, len(regions), PAGE):
        yield regions[at : at + PAGE]
        await asyncio.sleep(0)


async def pages(source: RegionSource, start: bytes = b"", end: bytes = b"") -> AsyncIterator[Sequence[RegionView]]:
    """Regions of a range, a page at a time; what changes meanwhile is seen or not, but no region is seen twice."""
    while True:
        page = source.scan(start, end, PAGE)
        if page:
            yield page
        if len(page) < PAGE or not page[-1].end_key or (end and page[-1].end_key >= end):
            return
        start = page[-1].end_key
        await asyncio.sleep(0)


async def _stream(
    request: web.Request, source: RegionSource, found: AsyncIterator[Sequence[RegionView]]
) -> web.StreamResponse:
    """Regions first and their count after them: how many there will be is known only then."""
    response = web.StreamResponse(headers={"Content-Type": "application/json; charset=UTF-8"})
    count = 0
    head: list[bytes] = [b'{"regions":[']
    async for page in found:
        head.append(_joined(source, page, first=count == 0))
        count += len(page)
        if count > PAGE or response.prepared:
            if not response.prepared:
                await response.prepare(request)
            await response.write(b"".join(head))
            head.clear()
    tail = b"".join(head) + f'],"count":{count}}}'.encode()
    if not response.prepared:
        return web.Response(body=tail, headers=response.headers)
    await response.write(tail)
    await response.write_eof()
    return response


def _joined(source: RegionSource, page: Iterable[RegionView], *, first: bool) -> bytes:
    texts = [json.dumps(region_json(region, source.down_seconds(region.region_id))) for region in page]
    return (("" if first else ",") + ",".join(texts)).encode()
