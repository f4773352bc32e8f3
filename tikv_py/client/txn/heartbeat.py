"""Keeping a long transaction's primary lock alive, so that readers wait for it and do not roll it back."""

from __future__ import annotations

import asyncio

from core_py.errors import DbError
from core_py.runtime.log import get_logger
from protos.kvproto import kvrpcpb_pb2
from tikv_py.client.region.sender import with_region_retries
from tikv_py.client.txn.context import ClientContext

MANAGED_TTL_MS = 20_000
MAX_LIFE_MS = 3_600_000  # a transaction that lives longer is left to expire

log = get_logger()


class HeartBeat:
    """Started once the primary is locked; stopped when the transaction is decided."""

    def __init__(self, context: ClientContext, primary: bytes, start_ts: int, begun_at: float) -> None:
        self._context, self._primary, self._start_ts, self._begun_at = context, primary, start_ts, begun_at
        self._task: asyncio.Task[None] | None = None
        self.lost = False

    def start(self, first_ttl_ms: int) -> None:
        """Begin; a running one is left alone."""
        if self._task is None:
            pause_s = min(first_ttl_ms, MANAGED_TTL_MS) / 2000
            self._task = self._context.heart_beats.spawn(self._run(pause_s), name="txn heart beat")

    def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self, pause_s: float) -> None:
        while True:
            await asyncio.sleep(pause_s)
            uptime_ms = int((self._context.clock.monotonic() - self._begun_at) * 1000)
            if uptime_ms > MAX_LIFE_MS:
                log.warning("transaction lives too long, its locks may expire", start_ts=self._start_ts)
                return
            try:
                if not await self._beat(uptime_ms + MANAGED_TTL_MS):
                    self.lost = True
                    return
            except DbError as error:
                log.warning("heart beat failed", start_ts=self._start_ts, error=str(error))
            pause_s = MANAGED_TTL_MS / 2000

    async def _beat(self, ttl_ms: int) -> bool:
        context = self._context
        backoffer = context.new_backoffer(MANAGED_TTL_MS // 2)
        request = kvrpcpb_pb2.TxnHeartBeatRequest(
            primary_lock=self._primary, start_version=self._start_ts, advise_lock_ttl=ttl_ms
        )

        async def attempt() -> bool:
            region = await context.region_cache.locate_key(self._primary, backoffer)
            response = await context.sender.send(region, "KvTxnHeartBeat", request, backoffer=backoffer)
            return not response.HasField("error")

        return await with_region_retries(backoffer, attempt)
