"""One PD member, put together from its parts over given ports; the same for a process and for an embedded cluster.

disk -> log -> replica <-> links (peer address)        every member
                 |
               store -> leadership -> session          the leader, term by term
                 |
gRPC services (client address)                         every member; most calls are refused by followers
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from core_py.errors import ConfigError, DbError, invariant
from core_py.ports import Channel, Clock, Disk, Listener, Random, Service, StatusError, Transport, Workers
from core_py.raft.messages import Message
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from pd_py.cluster.cluster import Cluster, new_regions
from pd_py.cluster.region_follower import RegionFollower
from pd_py.cluster.region_storage import RegionStorage
from pd_py.etcd import cluster, kv, lease, maintenance, meta_storage, watch
from pd_py.etcd.lessor import Lessor
from pd_py.etcd.member import EtcdMember
from pd_py.global_config.handlers import GlobalConfigService
from pd_py.keyspace import service as keyspaces
from pd_py.member import identity
from pd_py.member.changes import MemberChanges
from pd_py.member.fenced import FencedStore
from pd_py.member.leadership import Leadership
from pd_py.member.roster import Roster, member_key
from pd_py.metastore.durable_log import DurableLog
from pd_py.metastore.links import Links
from pd_py.metastore.members import MemberTable, to_pb
from pd_py.metastore.replica import Replica
from pd_py.metastore.replicated import ReplicatedStore
from pd_py.resource import service as resources
from pd_py.resource.manager import ResourceManager
from pd_py.server.config import PdConfig
from pd_py.server.directory import MemberDirectory
from pd_py.server.forwarding import Forwarder
from pd_py.server.metrics import PdMetrics
from pd_py.server.service import PdService
from pd_py.server.session import LeaderSession, Surroundings
from protos.kvproto import pdpb_pb2
from protos.private import metaraft_pb2

STOP_GRACE_S = 0.5
ALONE_TIMEOUT_S = 10.0
HTTP_URL_KEY = "http_url"


class PdServer:
    """A PD member."""

    def __init__(
        self,
        config: PdConfig,
        *,
        transport: Transport,
        disk: Disk,
        workers: Workers,
        clock: Clock,
        rng: Random,
        registry: CollectorRegistry,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.config = config
        self._transport = transport
        self._disk = disk
        self._workers = workers
        self._clock = clock
        self._rng = rng
        self._metrics = PdMetrics(registry)
        self._on_failure = on_failure
        self._scope = TaskScope("pd", on_failure=on_failure)
        self._listeners: list[Listener] = []
        self._service: PdService | None = None
        self._links: Links | None = None
        self._led = asyncio.Event()
        self._regions = new_regions(config.schedule_options)
        self._region_storage = RegionStorage(disk, workers, self._regions.tree.all)
        self._regions.on_meta.append(self._region_storage.put)
        self._regions.on_gone.append(self._region_storage.gone)
        self.store: ReplicatedStore
        self.changes: MemberChanges
        self.directory: MemberDirectory
        self._roster: Roster
        self.address = self.peer_address = ""

    @property
    def cluster(self) -> Cluster | None:
        """The cluster, while this member leads."""
        return None if self.directory.session is None else self.directory.session.cluster

    async def start(self) -> None:
        """Load, take part, serve. A member that is alone leads on return. Raises StorageError, ConfigError."""
        config = self.config
        log = DurableLog(self._disk, self._workers)
        own = await identity.establish(config.birth, self._disk, log, self._transport)
        await self._start_replica(log, own)
        self.directory = MemberDirectory(self.store, self._regions)
        self.changes = MemberChanges(self.store, self._rng)
        forwarder = Forwarder(self.directory.own, self.directory.all, self._channel)
        member = EtcdMember(self.store, self.changes)
        watches = watch.WatchService(member, self._clock)
        settings = GlobalConfigService(member, watches, lambda: self.directory.cluster_id)
        service = self._service = PdService(self.directory, forwarder, self._metrics, self._clock, settings)
        listener = await self._transport.serve(
            config.listen_address, [*service.services(), *self._other_services(member, watches)]
        )
        self._listeners.append(listener)
        self.address = listener.address
        roster = self._roster = Roster(
            self.store,
            config.name,
            config.birth.peer_urls,
            (config.advertise_client_urls or f"{config.scheme}://{self.address}",),
        )
        self._regions.load(await self._region_storage.load())
        self._scope.spawn(self._region_storage.run(), name="region cache")
        self._scope.spawn(self.store.replica.run(), name="metadata replica")
        self._scope.spawn(self._follower(own.member_id).run(), name="regions of the leader")
        self._scope.spawn(roster.publish(), name="publish member")
        self._scope.spawn(roster.promote_learners(), name="promote members")
        self._scope.spawn(Leadership(self.store, self._begin_session).run(), name="leadership")
        get_logger().info("pd is serving", address=self.address, member=own.member_id)
        await self.store.replica.applied_to(log.hard_state.commit)  # only then the configuration is the newest
        if self.store.replica.node.is_alone:
            async with asyncio.timeout(ALONE_TIMEOUT_S):
                await self._led.wait()
                await roster.published.wait()

    def _follower(self, member_id: int) -> RegionFollower:
        def leader_address() -> str:
            leader = self.store.leader()
            return "" if leader is None or leader.id == member_id else leader.client_address

        own = pdpb_pb2.Member(name=self.config.name, member_id=member_id)
        follower = RegionFollower(
            self._regions, self._transport, own, leader_address, lambda: self.directory.cluster_id
        )
        self.directory.follows = lambda: follower.is_synced and self.directory.session is None
        return follower

    def _other_services(self, member: EtcdMember, watches: watch.WatchService) -> list[Service]:
        def lessor() -> Lessor | None:
            session = self.directory.session
            return None if session is None else session.lessor

        return [
            kv.service(member),
            watch.service(watches),
            lease.service(member, lessor, self._leader_channel, self._rng),
            cluster.service(member),
            maintenance.service(member),
            meta_storage.service(member, watches, lambda: self.directory.cluster_id),
            keyspaces.service(lambda: self.directory.cluster_id),
            resources.service(self._resource_groups),
        ]

    def _resource_groups(self) -> ResourceManager:
        session = self.directory.session
        if session is None or not session.store.is_valid:
            raise StatusError("UNAVAILABLE", "not leader")
        return session.resources

    def _leader_channel(self) -> Channel | None:
        """The connection to the leader's client address; None when this member leads, or nobody is known to."""
        leader = self.store.leader()
        if leader is None or leader.id == self.store.member_id or not leader.client_address:
            return None
        return self._channel(leader.client_address)

    def _channel(self, address: str) -> Channel:
        invariant(self._links is not None, "the member was not started")
        assert self._links is not None
        return self._links.channel(address)

    async def _start_replica(self, log: DurableLog, own: identity.Identity) -> None:
        early = MemberTable()
        early.load(own.members)

        def address_of(member_id: int) -> str:
            member = replica.machine.members.get(member_id) or early.get(member_id)
            return "" if member is None else member.peer_address

        def receive(message: Message) -> None:
            replica.receive(message)

        links = self._links = Links(
            self._transport,
            own.member_id,
            own.group_id,
            self.config.initial_cluster_token,
            address_of,
            receive,
        )
        replica = Replica(
            own.member_id,
            log,
            self._clock,
            self._rng,
            self.config.raft_times,
            links.send,
            restarted=own.restarted,
        )
        replica.on_synced = self._metrics.sync_duration.observe
        links.on_unreachable = replica.unreachable
        links.on_snapshot = lambda member, ok: replica.snapshot_sent(member, ok=ok)
        self.store = ReplicatedStore(replica, links, own.group_id, self._clock)
        self.store.subscribe(self._look_for_removal)

        def describe() -> metaraft_pb2.DescribeResponse:
            return metaraft_pb2.DescribeResponse(
                group_id=own.group_id,
                member_id=own.member_id,
                members=[to_pb(member) for member in self.store.members()],
            )

        service = links.service(self.store.serve_propose, describe)
        listener = await self._transport.serve(self.config.peer_listen_address, [service])
        self._listeners.append(listener)
        self.peer_address = listener.address

    def _look_for_removal(self) -> None:
        members = self.store.members()
        if members and all(member.id != self.store.member_id for member in members) and self._on_failure is not None:
            self._on_failure(
                ConfigError(
                    f"member {self.config.name} was removed from the cluster; to bring it back, delete its data directory"
                    " and start it with --join"
                )
            )

    async def _begin_session(self, fenced: FencedStore) -> LeaderSession:
        around = Surroundings(self.config, self._clock, self._rng, self._metrics, self._regions)
        session = await LeaderSession.begin(fenced, around, self._on_failure, self._session_ended)
        invariant(self.directory.session is None, "two sessions of leadership at once")
        self.directory.session = session
        self._metrics.is_leader.set(1)
        self._led.set()
        return session

    def _session_ended(self) -> None:
        self.directory.session = None
        self._metrics.is_leader.set(0)

    @property
    def is_ready(self) -> bool:
        """Whether clients get an answer here or are told where: some member leads."""
        return self.store.leader() is not None

    def publish_http(self, url: str) -> None:
        """Let other members know where this one serves HTTP, when that is not its client address."""
        self._scope.spawn(self._roster.publish_value(HTTP_URL_KEY, url), name="publish http")

    def leader_http_urls(self) -> tuple[str, ...]:
        """Where the leader serves HTTP; empty when nobody leads, or this member does."""
        leader = self.store.leader()
        if leader is None or leader.id == self.store.member_id:
            return ()
        published = self.store.get(member_key(leader.id, HTTP_URL_KEY))
        return leader.client_urls if published is None else (published.decode(),)

    async def resign(self) -> None:
        """Before an orderly end: let another member lead first, so that clients wait a moment and not an election."""
        if not self.store.is_leader:
            return
        heir = self.store.replica.likely_heir()
        if heir is None:
            return
        try:
            await self.changes.hand_over(heir)
        except DbError as error:
            get_logger().info("leadership was not handed over", error=str(error))

    async def stop(self) -> None:
        """Stop serving, finish what is being written."""
        for listener in reversed(self._listeners):
            await listener.stop(STOP_GRACE_S)
        if self._service is not None:
            await self._service.close()
        await self._scope.close()
        await self._region_storage.close()
        if self._links is not None:
            await self._links.close()
        self._disk.close()
