"""Sending a command to a region: choosing the peer, filling the context, and reacting to region errors (wire facts 3.6).

`send` returns a response without a region error, or raises. What can be settled for the same region is settled here, within the
backoffer's budget: another leader, a busy store, a silent peer. When the region itself is not what the caller thinks, the cache is
renewed and `RegionStale` raised: only the caller can sort its keys into regions again (`with_region_retries`).

The usual case, a leader whose store answers, takes a short way without any book-keeping; the books are opened at the first trouble.
A leader whose store is dead is not asked: the other voters are, one after the other, whether they lead now. A hint that names a
leader on a dead store is not followed.

Transport failures of a request that may have been carried out are noted in `backoffer.rpc_error`; commands that must not
be repeated are sent with `idempotent=False` and their failure is raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from core_py.errors import DeadlineExceeded, PdError, RpcError
from core_py.ports import Random
from core_py.region_errors import RegionError, UndeterminedResult, from_pb
from protos.kvproto import errorpb_pb2, kvrpcpb_pb2, metapb_pb2
from tikv_py.client.errors import RegionStale
from tikv_py.client.pd.errors import StoreNotFound
from tikv_py.client.region import backoff as kinds
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.cache import RegionCache
from tikv_py.client.region.health import Liveness
from tikv_py.client.region.regions import Region
from tikv_py.client.region.replicas import Replica, ReplicaMode, ReplicaRead, choose_replica, next_probe
from tikv_py.client.region.store import StoreCache, StoreHandle
from tikv_py.client.rpc.stats import ClientStats

READ_TIMEOUT_S = 30.0
WRITE_TIMEOUT_S = 20.0
MAX_LEADER_FAILURES = 10
"""Failed sends to one leader whose store is alive, before other peers are asked."""
BIRTH_WAITS = 4
"""How often a replica that a split is bringing up is asked: for 30 ms in all, after which another one may well serve."""

T = TypeVar("T")

_WAIT_AND_REPEAT = {
    "stale_command": kinds.STALE_COMMAND,
    "max_timestamp_not_synced": kinds.MAX_TS_NOT_SYNCED,
    "read_index_not_ready": kinds.REGION_SCHEDULING,
    "proposal_in_merging_mode": kinds.REGION_SCHEDULING,
    "disk_full": kinds.DISK_FULL,
}
_FORGET_REGION = ("region_not_found", "key_not_in_region", "mismatch_peer_id", "bucket_version_not_match")
_FAIL = ("raft_entry_too_large", "undetermined_result", "FlashbackInProgress", "FlashbackNotPrepared")
_TIMED = frozenset(("KvGet", "KvBatchGet", "RawGet", "RawBatchGet"))
"""Point reads: how long they take says how fast a store is."""


def variant_of(error: errorpb_pb2.Error) -> str:
    """The name of the variant that is set, or an empty string."""
    return next((descriptor.name for descriptor, _ in error.ListFields() if descriptor.name != "message"), "")


@dataclass(slots=True)
class _Sending:
    """One `send` on its way."""

    region: Region
    backoffer: Backoffer
    read: ReplicaRead
    stale: bool
    redirects: int = 0
    birth_waits: int = 0
    tried: set[int] = field(default_factory=set)
    """Peers that were asked, by id."""
    failures: dict[int, int] = field(default_factory=dict)
    """Failed sends by peer id."""
    used_up: set[int] = field(default_factory=set)
    """Peers not worth another attempt."""
    peer: metapb_pb2.Peer = field(default_factory=metapb_pb2.Peer)

    @property
    def at_leader(self) -> bool:
        """Whether only the leader may answer."""
        return self.read.mode is ReplicaMode.LEADER and not self.stale

    def to_leader(self) -> None:
        """Give up on other replicas."""
        self.read, self.stale = ReplicaRead.LEADER, False
        self.birth_waits = 0

    def text(self, cause: object) -> str:
        """A cause with the place it happened at."""
        region = self.region
        return f"region {region.id} epoch {region.conf_ver},{region.version} store {self.peer.store_id}: {cause}"


class RegionRequestSender:
    """See the module's text."""

    def __init__(self, cache: RegionCache, stores: StoreCache, random: Random, cluster_id: int = 0) -> None:
        self._cache, self._stores, self._random, self.cluster_id = cache, stores, random, cluster_id
        self.stats = ClientStats(stores.stats, cache.stats)

    async def send(
        self,
        region: Region,
        cmd_name: str,
        request: Any,
        *,
        backoffer: Backoffer,
        timeout_s: float = READ_TIMEOUT_S,
        replica_read: bool | ReplicaRead = False,
        stale_read: bool = False,
        idempotent: bool = True,
    ) -> Any:
        """Run a store method on a region. Raises RegionStale, RegionError, BudgetExhausted, RpcError (not idempotent).

        `replica_read` says which replica serves (True = any). `stale_read` goes to any that is complete up to the request's
        timestamp, and to the leader if the one chosen is not. `timeout_s` is for one attempt; cancel the call to end all.
        """
        if backoffer.stats is None:
            backoffer.stats = self.stats
        if replica_read or stale_read:
            wanted = ReplicaRead.of(replica_read)
            if stale_read and wanted.mode is ReplicaMode.LEADER:
                wanted = ReplicaRead.MIXED
            sending = _Sending(region, backoffer, wanted, stale_read)
            return await self._send(sending, cmd_name, request, timeout_s, idempotent=idempotent)
        newest = self._cache.newest(region)
        handle = None if newest is None else self._stores.ready(newest.leader.store_id)
        if newest is None or handle is None:
            sending = _Sending(region, backoffer, ReplicaRead.LEADER, stale=False)
            return await self._send(sending, cmd_name, request, timeout_s, idempotent=idempotent)
        context, leader = request.context, newest.leader
        context.region_id = newest.id
        context.region_epoch.CopyFrom(newest.meta.region_epoch)
        context.peer.CopyFrom(leader)
        context.cluster_id = self.cluster_id
        if context.replica_read or context.stale_read:
            context.replica_read = context.stale_read = False
        if not context.max_execution_duration_ms:
            context.max_execution_duration_ms = int(timeout_s * 1000)
        trouble: RpcError | errorpb_pb2.Error
        try:
            urgent = context.priority == kvrpcpb_pb2.High
            response = await handle.connection.call(cmd_name, request, timeout_s, urgent=urgent)
        except RpcError as error:
            trouble = error
        else:
            if not response.HasField("region_error"):
                return response
            trouble = response.region_error
        sending = _Sending(newest, backoffer, ReplicaRead.LEADER, stale=False, peer=leader)
        sending.tried.add(leader.id)
        await self._react(sending, handle, trouble, idempotent=idempotent)
        return await self._send(sending, cmd_name, request, timeout_s, idempotent=idempotent)

    async def _send(self, sending: _Sending, cmd_name: str, request: Any, timeout_s: float, *, idempotent: bool) -> Any:
        """The long way: attempts with books, until one succeeds."""
        loop = asyncio.get_running_loop()
        while True:
            handle = await self._choose(sending)
            self._fill(request.context, sending, timeout_s)
            urgent = request.context.priority == kvrpcpb_pb2.High
            began_s = loop.time()
            trouble: RpcError | errorpb_pb2.Error
            try:
                response = await handle.connection.call(cmd_name, request, timeout_s, urgent=urgent)
            except RpcError as error:
                if isinstance(error, DeadlineExceeded) and cmd_name in _TIMED:
                    handle.health.timed_out(loop.time())
                trouble = error
            else:
                if cmd_name in _TIMED:
                    handle.health.answered(loop.time() - began_s, loop.time())
                if handle.failed_at is not None:
                    self._stores.answered(handle)
                if not response.HasField("region_error"):
                    if sending.at_leader and sending.peer.id != sending.region.leader.id:
                        self._cache.switch_leader(sending.region, sending.peer)
                    return response
                trouble = response.region_error
            await self._react(sending, handle, trouble, idempotent=idempotent)

    # ---- which peer ----

    async def _choose(self, sending: _Sending) -> StoreHandle:
        while True:
            newest = self._cache.newest(sending.region)
            if newest is None:
                raise RegionStale(sending.region.id, "a newer version of it is known")
            sending.region = newest
            sending.peer = self._peer(sending)
            try:
                handle = await self._stores.get(sending.peer.store_id)
            except StoreNotFound as error:
                self._cache.invalidate(newest, "store not found")
                raise RegionStale(newest.id, str(error)) from error
            except (PdError, RpcError) as error:
                await sending.backoffer.backoff(kinds.PD_RPC, sending.text(error))
                continue
            sending.tried.add(sending.peer.id)
            return handle

    def _peer(self, sending: _Sending) -> metapb_pb2.Peer:
        """The peer for the next attempt. Raises RegionStale when no peer is left to ask."""
        region = sending.region
        if not sending.at_leader:
            chosen = choose_replica(self._replicas(sending), sending.read, self._random)
            if chosen is not None:
                return chosen
            sending.to_leader()
            sending.used_up.clear()
        leader = region.leader
        is_worth_it = leader.id not in sending.used_up and sending.failures.get(leader.id, 0) < MAX_LEADER_FAILURES
        if is_worth_it and self._stores.liveness(leader.store_id) is not Liveness.UNREACHABLE:
            return leader
        sending.used_up.add(leader.id)
        self._cache.refresh(region)
        probe = next_probe(self._replicas(sending), leader)
        if probe is None:
            self._cache.invalidate(region, "no peer answers as leader")
            why = self._stores.last_failure(leader.store_id)
            raise RegionStale(region.id, f"none of its peers answered as leader; the last one known, {why}")
        return probe

    def _replicas(self, sending: _Sending) -> list[Replica]:
        now_s, stores, region = asyncio.get_running_loop().time(), self._stores, sending.region
        found = []
        for peer in region.meta.peers:
            handle = stores.peek(peer.store_id)
            found.append(
                Replica(
                    peer,
                    peer.id == region.leader.id,
                    stores.liveness(peer.store_id),
                    handle is not None and stores.is_slow(handle, now_s),
                    None if handle is None else handle.labels,
                    peer.id in sending.used_up,
                    peer.id in sending.tried,
                )
            )
        return found

    def _fill(self, context: Any, sending: _Sending, timeout_s: float) -> None:
        region = sending.region
        if not context.max_execution_duration_ms:
            context.max_execution_duration_ms = int(timeout_s * 1000)  # a store need not work for nobody
        context.region_id = region.id
        context.region_epoch.CopyFrom(region.meta.region_epoch)
        context.peer.CopyFrom(sending.peer)
        context.cluster_id = self.cluster_id
        context.stale_read = sending.stale
        context.replica_read = not sending.at_leader and not sending.stale and sending.peer.id != region.leader.id
        context.is_retry_request = sending.redirects > 0
        if not sending.at_leader:
            if sending.stale:
                self.stats.stale_reads += 1
            else:
                self.stats.replica_reads += 1

    # ---- what to do about trouble ----

    async def _react(
        self, sending: _Sending, handle: StoreHandle, trouble: RpcError | errorpb_pb2.Error, *, idempotent: bool
    ) -> None:
        """Return to try again, or raise."""
        if not isinstance(trouble, RpcError):
            await self._on_region_error(sending, handle, trouble)
            return
        self.stats.rpc_errors[trouble.status] += 1
        if trouble.sent:
            sending.backoffer.rpc_error = trouble
            if not idempotent:
                raise trouble
        sending.failures[sending.peer.id] = sending.failures.get(sending.peer.id, 0) + 1
        verdict = await self._stores.failed(handle, trouble)
        await sending.backoffer.backoff(kinds.TIKV_RPC, sending.text(trouble))
        # A store that is alive gets another chance, but not one that keeps its peer's requests: its peer may be cut off.
        if verdict is not Liveness.REACHABLE or isinstance(trouble, DeadlineExceeded) or not sending.at_leader:
            self._use_up(sending)
        sending.redirects += 1

    @staticmethod
    def _use_up(sending: _Sending) -> None:
        """Turn to another peer."""
        sending.used_up.add(sending.peer.id)
        sending.redirects += 1
        sending.birth_waits = 0

    async def _on_region_error(self, sending: _Sending, handle: StoreHandle, pb: errorpb_pb2.Error) -> None:
        region, backoffer = sending.region, sending.backoffer
        variant, error = variant_of(pb), from_pb(pb)
        self.stats.region_errors[variant or "other"] += 1
        if variant == "not_leader":
            await self._on_not_leader(sending, pb)
        elif variant == "epoch_not_match":
            if not self._cache.on_epoch_not_match(region, pb.epoch_not_match.current_regions):
                await backoffer.backoff(kinds.REGION_MISS, sending.text(error))
                return
            raise RegionStale(region.id, str(error))
        elif variant == "server_is_busy":
            await self._on_busy(sending, error, pb.server_is_busy.backoff_ms)
        elif variant == "store_not_match":
            self._stores.moved(handle)
            await backoffer.backoff(kinds.REGION_MISS, sending.text(error))
        elif variant == "data_is_not_ready":
            sending.to_leader()
        elif variant == "region_not_initialized":
            await backoffer.backoff(kinds.REGION_NOT_INITIALIZED, sending.text(error))
            self._wait_for_birth(sending)
        elif variant in _WAIT_AND_REPEAT:
            await backoffer.backoff(_WAIT_AND_REPEAT[variant], sending.text(error))
        elif variant in _FORGET_REGION:
            self._cache.invalidate(region, variant)
            raise RegionStale(region.id, str(error))
        elif variant in _FAIL:
            raise error
        else:
            await self._on_other(sending, variant, error)

    async def _on_not_leader(self, sending: _Sending, pb: errorpb_pb2.Error) -> None:
        region, leader = sending.region, pb.not_leader.leader
        text = sending.text(from_pb(pb))
        if not sending.at_leader:
            sending.to_leader()
            sending.used_up.clear()
        is_circle = leader.id == sending.peer.id
        if not leader.id or is_circle or self._stores.liveness(leader.store_id) is Liveness.UNREACHABLE:
            self._cache.refresh(region)
            await sending.backoffer.backoff(kinds.REGION_SCHEDULING, text)
            self._use_up(sending)
            return
        if not self._cache.switch_leader(region, leader):
            raise RegionStale(region.id, text)
        sending.used_up.add(sending.peer.id)
        sending.used_up.discard(leader.id)
        if sending.redirects:  # the first hint is followed at once, circles are not
            await sending.backoffer.backoff(kinds.REGION_SCHEDULING, text)
        sending.redirects += 1
        if self._cache.peek(region.id) is None:
            raise RegionStale(region.id, text)

    async def _on_busy(self, sending: _Sending, error: RegionError, wanted_ms: int) -> None:
        """Another replica may have time at once; a leader is waited for."""
        if not sending.at_leader:
            sending.used_up.add(sending.peer.id)
            if choose_replica(self._replicas(sending), sending.read, self._random) is not None:
                return
            sending.used_up.clear()
        await sending.backoffer.pause(kinds.SERVER_BUSY, sending.text(error), wanted_ms)

    def _wait_for_birth(self, sending: _Sending) -> None:
        """Ask the same replica again a few times: right after a split it is there in milliseconds, but its store may be slow."""
        sending.birth_waits += 1
        if sending.birth_waits >= BIRTH_WAITS:
            self._use_up(sending)

    async def _on_other(self, sending: _Sending, variant: str, error: RegionError) -> None:
        """Recovery, witnesses, variants unknown to this version and bare messages ("TiKV is Closing")."""
        wait = {"RecoveryInProgress": kinds.REGION_RECOVERY, "is_witness": kinds.IS_WITNESS}.get(
            variant, kinds.REGION_SCHEDULING
        )
        await sending.backoffer.backoff(wait, sending.text(error))
        self._use_up(sending)


async def with_region_retries(
    backoffer: Backoffer, attempt: Callable[[], Awaitable[T]], *, idempotent: bool = True
) -> T:
    """Run `attempt` (which locates and sends) again while regions turn out stale or an idempotent outcome unknown."""
    while True:
        try:
            return await attempt()
        except RegionStale as error:
            await backoffer.backoff(kinds.REGION_MISS, error)
        except UndeterminedResult as error:
            if not idempotent:
                raise
            backoffer.rpc_error = RpcError(str(error))
            await backoffer.backoff(kinds.REGION_MISS, error)
