"""A PD member for tests of its HTTP API: the real cluster, settings and coordinator over metadata in memory; members of PD are
plain values."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from core_py.errors import PdError
from core_py.sim.clock import LoopClock
from pd_py.api.app import application
from pd_py.api.backend import ApiBackend
from pd_py.api.of_cluster import RegionsOfMember
from pd_py.api.wiring import leader_services
from pd_py.cluster.cluster import Cluster
from pd_py.cluster.convert import region_pb
from pd_py.cluster.coordinator import Coordinator
from pd_py.gc.manager import GcManager
from pd_py.schedule.operator import Step
from pd_py.schedule.options import ScheduleOptions
from pd_py.schedule.view import PeerView, RegionView
from protos.kvproto import metapb_pb2, pdpb_pb2
from tests.support.dict_metadata import DictMetadata

API = "/pd/api/v1"
MIB = 1 << 20
STARTED_AT_S = 1_699_999_000


@dataclass
class Members:
    """`MembersPort`: what is asked of it is kept in `calls`."""

    names: Sequence[str] = ("pd1", "pd2", "pd3")
    leader: str = "pd1"
    urls: dict[str, str] = field(default_factory=dict)
    down: tuple[str, ...] = ()
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def _member(self, name: str) -> pdpb_pb2.Member:
        url = self.urls.get(name, f"http://{name}:2379")
        return pdpb_pb2.Member(
            name=name,
            member_id=self.names.index(name) + 1,
            client_urls=[url],
            peer_urls=[f"http://{name}:2380"],
            binary_version="v8",
        )

    def describe(self) -> pdpb_pb2.GetMembersResponse:
        response = pdpb_pb2.GetMembersResponse(members=[self._member(name) for name in self.names])
        if self.leader:
            response.leader.CopyFrom(self._member(self.leader))
            response.etcd_leader.CopyFrom(response.leader)
        return response

    async def healthy(self) -> Sequence[int]:
        return [self.names.index(name) + 1 for name in self.names if name not in self.down]

    async def remove(self, member_id: int) -> None:
        if not 0 < member_id <= len(self.names):
            raise PdError("etcdserver: member not found")
        self.calls.append(("remove", member_id))

    async def resign(self, to: str) -> None:
        if to and to not in self.names:
            raise PdError("no valid pd to transfer etcd leader")
        self.calls.append(("resign", to))

    async def set_priority(self, member_id: int, priority: int) -> None:
        self.calls.append(("priority", member_id, priority))


def region(region_id: int, start: bytes, end: bytes, stores: Sequence[int] = (1, 2, 3), **fields: Any) -> RegionView:
    """A region led from its first store."""
    peers = tuple(PeerView(region_id * 10 + store_id, store_id) for store_id in stores)
    base = RegionView(region_id, start, end, 1, 1, peers, stores[0], size_bytes=10 * MIB, keys=1000)
    return replace(base, **fields)


class Member:
    """One member; `leads` says whether it does."""

    def __init__(self, cluster: Cluster, metastore: DictMetadata, name: str) -> None:
        self.cluster = cluster
        self.metastore = metastore
        self.name = name
        self.members = Members()
        self.gc = GcManager(metastore, cluster.prefix, cluster.clock)
        self.leads = True
        self.shows_synced = False
        self.told: list[tuple[int, Step]] = []
        self.levels: list[str] = []
        clock = cluster.clock
        self.coordinator = Coordinator(
            cluster,
            metastore,
            cluster.prefix,
            clock,
            random.Random(1),
            cluster.ids,
            lambda one, step: self.told.append((one.region_id, step)),
        )
        cluster.has_operator = self.coordinator.has_operator
        self.services = leader_services(cluster, self.coordinator, self.gc, clock)

    def _leader_urls(self) -> Sequence[str]:
        known = self.members.describe()
        others = known.HasField("leader") and known.leader.name != self.name
        return list(known.leader.client_urls) if others else []

    def _set_level(self, level: str) -> None:
        if level not in ("info", "debug"):
            raise ValueError(f"unknown level {level}")
        self.levels.append(level)

    def backend(self) -> ApiBackend:
        clock = self.cluster.clock
        return ApiBackend(
            name=self.name,
            cluster_id=lambda: self.cluster.cluster_id,
            leader=lambda: self.services if self.leads else None,
            members=self.members,
            local_config=lambda: {"name": self.name, "data-dir": "/data"},
            set_log_level=self._set_level,
            now_ms=clock.wall_ms,
            leader_urls=self._leader_urls,
            started_at_s=STARTED_AT_S,
            synced_regions=lambda: RegionsOfMember(self.cluster.regions) if self.shows_synced else None,
        )

    def report(self, *regions: RegionView) -> None:
        """Region heartbeats."""
        for one in regions:
            leader = one.on_store(one.leader_store_id)
            assert leader is not None
            request = pdpb_pb2.RegionHeartbeatRequest(
                region=region_pb(one),
                leader=metapb_pb2.Peer(id=leader.peer_id, store_id=leader.store_id),
                term=6,
                approximate_size=one.size_bytes,
                approximate_keys=one.keys,
                bytes_written=one.written_bytes,
                bytes_read=one.read_bytes,
                keys_written=one.written_keys,
                keys_read=one.read_keys,
                down_peers=[
                    pdpb_pb2.PeerStats(peer=metapb_pb2.Peer(id=peer.peer_id, store_id=peer.store_id), down_seconds=3600)
                    for peer in one.peers
                    if peer.peer_id in one.down
                ],
                pending_peers=[
                    metapb_pb2.Peer(id=peer.peer_id, store_id=peer.store_id)
                    for peer in one.peers
                    if peer.peer_id in one.pending
                ],
            )
            request.interval.start_timestamp, request.interval.end_timestamp = 1_700_000_000, 1_700_000_060
            assert self.cluster.region_heartbeat(request) is not None

    def beat(self, store_id: int, **fields: Any) -> None:
        """A store heartbeat."""
        stats = pdpb_pb2.StoreStats(store_id=store_id, capacity=100 << 30, available=60 << 30, used_size=20 << 30)
        for name, value in fields.items():
            setattr(stats, name, value)
        self.cluster.store_heartbeat(stats)


async def new_member(name: str = "pd1", stores: int = 4, **options: Any) -> Member:
    """A member whose cluster has stores 1, 2, ... with a label zone=zN, and three regions on stores 1 to 3."""
    metastore = DictMetadata()
    cluster = await Cluster.open(metastore, LoopClock(), random.Random(1), options=ScheduleOptions(**options))
    member = Member(cluster, metastore, name)
    await member.coordinator.load()
    if stores:
        first = metapb_pb2.Region(id=1)
        first.peers.add(id=11, store_id=1)
        metas = [
            metapb_pb2.Store(
                id=store_id,
                address=f"store{store_id}:20160",
                version="8.5.0",
                start_timestamp=STARTED_AT_S,
                labels=[metapb_pb2.StoreLabel(key="zone", value=f"z{store_id}")],
            )
            for store_id in range(1, stores + 1)
        ]
        await cluster.bootstrap(metas[0], first)
        for meta in metas:
            await cluster.put_store(meta)
            member.beat(meta.id)
        member.report(
            region(1, b"", b"b", version=2, conf_ver=5, size_bytes=50 * MIB, written_bytes=600, read_bytes=60),
            region(2, b"b", b"m\xff", (2, 1, 3), version=3, conf_ver=4, keys=90, written_bytes=6000, read_bytes=6),
            region(3, b"m\xff", b"", (3, 1, 2), version=4, conf_ver=3, size_bytes=MIB // 2, read_bytes=600),
        )
    return member


Client = TestClient[Any, Any]


@asynccontextmanager
async def serving(member: Member) -> AsyncIterator[Client]:
    """An HTTP client of a member."""
    async with TestClient(TestServer(application(member.backend()))) as client:
        yield client
