"""Keeps new leaders from fixing commit timestamps before they know what their predecessors served reads at.

Another store's leader may have served reads at timestamps that this store has not seen. All of them came from PD before this peer
led, so one timestamp taken from PD afterwards lies above them all. The same holds for a region whose range changed: a merge brings
keys whose reads were served elsewhere. So each leader is marked with the (term, region version) that a timestamp was taken in, and
one question to PD serves all that wait.

A fast commit waits for the mark (`wait_until_synced`), and the mark is looked at again in the moment of the decision (`is_synced`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core_py.errors import DbError
from core_py.region_errors import MaxTimestampNotSynced
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from tikv_py.client.pd.client import PdClient
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.store import Store
from tikv_py.txn.concurrency import ConcurrencyManager

WAIT_S = 1.0
RETRY_S = 0.1


class MaxTsWorker:
    """See the module's text."""

    def __init__(
        self,
        store: Store,
        pd: PdClient,
        concurrency: ConcurrencyManager,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._store, self._pd, self._concurrency = store, pd, concurrency
        self._scope = TaskScope("max ts", on_failure=on_failure)
        self._synced: dict[int, tuple[int, int]] = {}
        """Region id -> (term, version) of the leader whose timestamp was taken."""
        self._round: asyncio.Task[None] | None = None
        concurrency.on_refused = self._begin_round

    async def stop(self) -> None:
        """End."""
        await self._scope.close()

    def is_synced(self, peer: Peer) -> bool:
        """Whether this leader knows of all reads that were served before it led its present range."""
        return self._synced.get(peer.region.id) == _moment(peer)

    async def wait_until_synced(self, peer: Peer) -> None:
        """Wait for the mark, at most `WAIT_S`. Raises MaxTimestampNotSynced."""
        try:
            async with asyncio.timeout(WAIT_S):
                while peer.is_leader and not self.is_synced(peer):
                    await asyncio.shield(self._begin_round())
        except TimeoutError:
            raise MaxTimestampNotSynced(peer.region.id) from None

    def _begin_round(self) -> asyncio.Task[None]:
        """Ask PD, unless it is being asked."""
        if self._round is None or self._round.done():
            self._round = self._scope.spawn(self._sync(), name="max ts")
        return self._round

    async def _sync(self) -> None:
        """Mark all present leaders."""
        peers = self._store.peers
        moments = {region_id: _moment(peer) for region_id, peer in peers.items() if peer.is_leader}
        try:
            self._concurrency.learn_pd_ts(await self._pd.timestamp())
        except DbError as error:
            get_logger().info("no timestamp for new leaders", error=str(error))
            await asyncio.sleep(RETRY_S)
            return
        self._synced = {
            region_id: moment
            for region_id, moment in moments.items()
            if (peer := peers.get(region_id)) and peer.is_leader
        }


def _moment(peer: Peer) -> tuple[int, int]:
    return peer.node.term, peer.region.region_epoch.version
