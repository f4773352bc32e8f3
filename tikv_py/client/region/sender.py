"""Sending a command to a region: choosing the peer, filling the context, and reacting to region errors (wire facts 3.6).

`send` returns a response without a region error, or raises. What can be settled for the same region is settled here, within the
backoffer's budget: another leader, a busy store, a silent peer. When the region itself is not what the caller thinks, the cache is
renewed and `RegionStale` raised: only the caller can sort its keys into regions again (`with_region_retries`).

Transport failures of a request that may have been carried out are noted in `backoffer.rpc_error`; commands that must not
be repeated are sent with `idempotent=False` and their failure is raised.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from core_py.errors import PdError, RpcError
from core_py.ports import Random
from core_py.region_errors import RegionError, UndeterminedResult, from_pb
from protos.kvproto import errorpb_pb2, metapb_pb2
from tikv_py.client.errors import RegionStale
from tikv_py.client.pd.errors import StoreNotFound
from tikv_py.client.region import backoff as kinds
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.cache import RegionCache
from tikv_py.client.region.regions import Region
from tikv_py.client.region.store import StoreCache, StoreHandle

READ_TIMEOUT_S = 30.0
WRITE_TIMEOUT_S = 20.0

T = TypeVar("T")

_WAIT_AND_REPEAT = {
    "stale_command": kinds.STALE_COMMAND,
    "max_timestamp_not_synced": kinds.MAX_TS_NOT_SYNCED,
    "read_index_not_ready": kinds.REGION_SCHEDULING,
    "proposal_in_merging_mode": kinds.REGION_SCHEDULING,
    "disk_full": kinds.DISK_FULL,
}
BIRTH_WAITS = 4
"""How often a replica that a split is bringing up is asked: for 30 ms in all, after which another one may well serve."""
_FORGET_REGION = ("region_not_found", "key_not_in_region", "mismatch_peer_id", "bucket_version_not_match")
_FAIL = ("raft_entry_too_large", "undetermined_result", "FlashbackInProgress", "FlashbackNotPrepared")


def variant_of(error: errorpb_pb2.Error) -> str:
    """The name of the variant that is set, or an empty string."""
    return next((descriptor.name for descriptor, _ in error.ListFields() if descriptor.name != "message"), "")


@dataclass(slots=True)
class _Sending:
    """One `send` on its way."""

    region: Region
    backoffer: Backoffer
    replica_read: bool
    stale_read: bool
    redirects: int = 0
    birth_waits: int = 0
    failed_peers: set[int] = field(default_factory=set)
    peer: metapb_pb2.Peer = field(default_factory=metapb_pb2.Peer)

    def text(self, cause: object) -> str:
        """A cause with the place it happened at."""
        region = self.region
        return f"region {region.id} epoch {region.conf_ver},{region.version} store {self.peer.store_id}: {cause}"


class RegionRequestSender:
    """See the module's text."""

    def __init__(self, cache: RegionCache, stores: StoreCache, random: Random, cluster_id: int = 0) -> None:
        self._cache, self._stores, self._random, self.cluster_id = cache, stores, random, cluster_id

    async def send(
        self,
        region: Region,
        cmd_name: str,
        request: Any,
        *,
        backoffer: Backoffer,
        timeout_s: float = READ_TIMEOUT_S,
        replica_read: bool = False,
        stale_read: bool = False,
        idempotent: bool = True,
    ) -> Any:
        """Run a store method on a region. Raises RegionStale, RegionError, BudgetExhausted, RpcError (not idempotent).

        `stale_read` goes to any replica that is complete up to the request's timestamp, and to the leader if the one chosen is not.
        """
        sending = _Sending(region, backoffer, replica_read, stale_read)
        while True:
            handle = await self._choose(sending)
            self._fill(request.context, sending)
            try:
                response = await handle.connection.call(cmd_name, request, timeout_s)
            except RpcError as error:
                if error.sent:
                    backoffer.rpc_error = error
                    if not idempotent:
                        raise
                await self._on_rpc_error(sending, handle, error)
                continue
            if handle.failed_at is not None:
                self._stores.answered(handle)
            if not response.HasField("region_error"):
                return response
            await self._on_region_error(sending, handle, response.region_error)

    async def _choose(self, sending: _Sending) -> StoreHandle:
        newest = self._cache.newest(sending.region)
        if newest is None:
            raise RegionStale(sending.region.id, "a newer version of it is known")
        sending.region = newest
        sending.peer = self._replica(newest) if sending.replica_read or sending.stale_read else newest.leader
        try:
            return await self._stores.get(sending.peer.store_id)
        except StoreNotFound as error:
            self._cache.invalidate(newest)
            raise RegionStale(newest.id, str(error)) from error
        except (PdError, RpcError) as error:
            await sending.backoffer.backoff(kinds.PD_RPC, sending.text(error))
            return await self._choose(sending)

    def _replica(self, region: Region) -> metapb_pb2.Peer:
        peers = [
            peer for peer in region.meta.peers if not peer.is_witness and not self._stores.is_suspect(peer.store_id)
        ]
        return peers[self._random.randrange(0, len(peers))] if peers else region.leader

    def _fill(self, context: Any, sending: _Sending) -> None:
        region = sending.region
        context.region_id = region.id
        context.region_epoch.CopyFrom(region.meta.region_epoch)
        context.peer.CopyFrom(sending.peer)
        context.cluster_id = self.cluster_id
        context.stale_read = sending.stale_read
        context.replica_read = sending.replica_read and not sending.stale_read and sending.peer.id != region.leader.id
        if sending.redirects:
            context.is_retry_request = True

    async def _on_rpc_error(self, sending: _Sending, handle: StoreHandle, error: RpcError) -> None:
        self._stores.failed(handle)
        await sending.backoffer.backoff(kinds.TIKV_RPC, sending.text(error))
        self._try_next_peer(sending, error)

    def _try_next_peer(self, sending: _Sending, why: object) -> None:
        """Turn to the next peer; after a whole round the region is asked for again."""
        sending.replica_read = sending.stale_read = False
        sending.redirects += 1
        sending.birth_waits = 0
        sending.failed_peers.add(sending.peer.id)
        region = sending.region
        if self._cache.next_peer(region).id in sending.failed_peers:
            self._cache.invalidate(region)
            raise RegionStale(region.id, f"none of its peers answered as leader; last: {why}")

    def _wait_for_birth(self, sending: _Sending, error: RegionError) -> None:
        """Ask the same replica again a few times: right after a split it is there in milliseconds, but its store may be slow."""
        sending.birth_waits += 1
        if sending.birth_waits < BIRTH_WAITS:
            return
        if sending.replica_read or sending.stale_read:
            sending.replica_read = sending.stale_read = False
            sending.birth_waits = 0
        else:
            self._try_next_peer(sending, error)

    async def _on_region_error(self, sending: _Sending, handle: StoreHandle, pb: errorpb_pb2.Error) -> None:
        """Return to try again, or raise."""
        region, backoffer = sending.region, sending.backoffer
        variant, error = variant_of(pb), from_pb(pb)
        if variant == "not_leader":
            await self._on_not_leader(sending, pb)
        elif variant == "epoch_not_match":
            if not self._cache.on_epoch_not_match(region, pb.epoch_not_match.current_regions):
                await backoffer.backoff(kinds.REGION_MISS, sending.text(error))
                return
            raise RegionStale(region.id, str(error))
        elif variant == "server_is_busy":
            await backoffer.pause(kinds.SERVER_BUSY, sending.text(error), pb.server_is_busy.backoff_ms)
        elif variant == "store_not_match":
            self._stores.moved(handle)
            await backoffer.backoff(kinds.REGION_MISS, sending.text(error))
        elif variant == "data_is_not_ready":
            sending.replica_read = sending.stale_read = False
        elif variant == "region_not_initialized":
            await backoffer.backoff(kinds.REGION_NOT_INITIALIZED, sending.text(error))
            self._wait_for_birth(sending, error)
        elif variant in _WAIT_AND_REPEAT:
            await backoffer.backoff(_WAIT_AND_REPEAT[variant], sending.text(error))
        elif variant in _FORGET_REGION:
            self._cache.invalidate(region)
            raise RegionStale(region.id, str(error))
        elif variant in _FAIL:
            raise error
        else:
            await self._on_other(sending, variant, error)

    async def _on_not_leader(self, sending: _Sending, pb: errorpb_pb2.Error) -> None:
        region = sending.region
        text = sending.text(from_pb(pb))
        if not pb.not_leader.HasField("leader"):
            await sending.backoffer.backoff(kinds.REGION_SCHEDULING, text)
            self._try_next_peer(sending, text)
            return
        sending.replica_read = sending.stale_read = False
        if not self._cache.switch_leader(region, pb.not_leader.leader):
            raise RegionStale(region.id, text)
        if sending.redirects:  # the first hint is followed at once, circles are not
            await sending.backoffer.backoff(kinds.REGION_SCHEDULING, text)
        sending.redirects += 1
        if self._cache.peek(region.id) is None:
            raise RegionStale(region.id, text)

    async def _on_other(self, sending: _Sending, variant: str, error: RegionError) -> None:
        """Recovery, witnesses, variants unknown to this version and bare messages ("TiKV is Closing")."""
        wait = {"RecoveryInProgress": kinds.REGION_RECOVERY, "is_witness": kinds.IS_WITNESS}.get(
            variant, kinds.REGION_SCHEDULING
        )
        await sending.backoffer.backoff(wait, sending.text(error))
        self._try_next_peer(sending, error)


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
