"""The region heartbeat streams: reports come in, commands for region leaders go out on the stream of the leader's store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from core_py.errors import PdError, RpcError
from core_py.ports import CallContext
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from pd_py.cluster.cluster import Cluster
from pd_py.cluster.convert import peer_pb
from pd_py.cluster.step_command import step_command
from pd_py.schedule.operator import Step
from pd_py.schedule.view import RegionView
from protos.kvproto import metapb_pb2, pdpb_pb2

OUTBOX_MAX = 4096  # commands waiting for one store; the oldest are dropped, the patrol repeats them


class HeartbeatStreams:
    """One outgoing queue per store, replaced when the store connects again."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._outboxes: dict[int, asyncio.Queue[pdpb_pb2.RegionHeartbeatResponse | None]] = {}
        self._open: set[asyncio.Queue[pdpb_pb2.RegionHeartbeatResponse | None]] = set()

    def close(self) -> None:
        """End all streams, so that stores look for the next leader."""
        for outbox in self._open:
            _finish(outbox)

    def send_step(self, region: RegionView, step: Step) -> None:
        """Tell the region's leader to take a step."""
        outbox = self._outboxes.get(region.leader_store_id)
        leader = region.on_store(region.leader_store_id)
        if outbox is None or leader is None:
            return
        response = step_command(region, step)
        if response is None:
            return
        response.header.cluster_id = self._cluster.cluster_id
        response.region_id = region.region_id
        response.region_epoch.CopyFrom(metapb_pb2.RegionEpoch(conf_ver=region.conf_ver, version=region.version))
        response.target_peer.CopyFrom(peer_pb(leader))
        if outbox.full():
            outbox.get_nowait()
        outbox.put_nowait(response)

    async def serve(
        self, requests: AsyncIterator[pdpb_pb2.RegionHeartbeatRequest], _context: CallContext
    ) -> AsyncIterator[pdpb_pb2.RegionHeartbeatResponse]:
        """The stream's handler."""
        outbox: asyncio.Queue[pdpb_pb2.RegionHeartbeatResponse | None] = asyncio.Queue(OUTBOX_MAX)
        scope = TaskScope("region heartbeats", on_failure=lambda error: _failed(outbox, error))
        scope.spawn(self._read(requests, outbox))
        self._open.add(outbox)
        try:
            while (response := await outbox.get()) is not None:
                yield response
        finally:
            self._open.discard(outbox)
            for store_id in [store_id for store_id, current in self._outboxes.items() if current is outbox]:
                del self._outboxes[store_id]
            await scope.close()

    async def _read(
        self,
        requests: AsyncIterator[pdpb_pb2.RegionHeartbeatRequest],
        outbox: asyncio.Queue[pdpb_pb2.RegionHeartbeatResponse | None],
    ) -> None:
        cluster = self._cluster
        try:
            async for request in requests:
                if request.header.cluster_id != cluster.cluster_id:
                    raise PdError(
                        f"heartbeat of cluster {request.header.cluster_id} reached cluster {cluster.cluster_id}"
                    )
                store_id = request.leader.store_id
                if self._outboxes.get(store_id) is not outbox:
                    get_logger().info("region heartbeat stream", store=store_id)
                    self._outboxes[store_id] = outbox
                cluster.region_heartbeat(request)
        except PdError as error:
            get_logger().warn("region heartbeat refused", error=str(error))
        except RpcError as error:
            get_logger().debug("region heartbeat stream ended", error=str(error))
        finally:
            _finish(outbox)


def _failed(outbox: asyncio.Queue[pdpb_pb2.RegionHeartbeatResponse | None], error: BaseException) -> None:
    get_logger().error("region heartbeat stream failed", error=f"{type(error).__name__}: {error}")
    _finish(outbox)


def _finish(outbox: asyncio.Queue[pdpb_pb2.RegionHeartbeatResponse | None]) -> None:
    if outbox.full():
        outbox.get_nowait()
    outbox.put_nowait(None)
