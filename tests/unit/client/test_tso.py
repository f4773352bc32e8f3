"""Timestamps: cancelled callers, a bounded queue, and timestamps of low resolution."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.client.test_pd import with_pd
from tikv_py.client.pd import tso
from tikv_py.client.pd.client import PdClient
from tikv_py.client.pd.errors import TsoUnavailable
from tikv_py.client.testing.pd import MemoryPd


def test_a_cancelled_caller_costs_no_timestamp_and_hurts_nobody() -> None:
    async def body(pd: MemoryPd, client: PdClient) -> None:
        loop = asyncio.get_running_loop()
        await client.timestamp()
        calls = [loop.create_task(client.timestamps(10)) for _ in range(20)]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
        got = [one for one in done if isinstance(one, range)]
        assert len(got) == 10
        assert sum(pd.tso_counts) == 1 + 100
        every = [ts for one in got for ts in one]
        assert every == sorted(set(every))

    with_pd(body)


def test_a_caller_that_gives_up_while_its_request_is_out_is_passed_over() -> None:
    async def body(_pd: MemoryPd, client: PdClient) -> None:
        first = await client.timestamp()
        calls = [asyncio.get_running_loop().create_task(client.timestamp()) for _ in range(3)]
        for _ in range(3):
            await asyncio.sleep(0)
        calls[1].cancel()
        one, cancelled, three = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(cancelled, asyncio.CancelledError)
        assert isinstance(one, int)
        assert isinstance(three, int)
        assert first < one < three

    with_pd(body)


def test_too_many_waiting_callers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tso, "MAX_WAITING", 5)

    async def body(pd: MemoryPd, client: PdClient) -> None:
        pd.leader = ""
        loop = asyncio.get_running_loop()
        calls = [loop.create_task(client.timestamp(3.0)) for _ in range(7)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        refused = [error for error in done if isinstance(error, TsoUnavailable) and "5 callers wait" in str(error)]
        assert len(refused) == 2
        pd.leader = pd.members[0]
        await asyncio.sleep(10)
        assert await client.timestamp() > 0

    with_pd(body)


def test_a_timestamp_of_low_resolution_is_at_most_so_old() -> None:
    async def body(pd: MemoryPd, client: PdClient) -> None:
        newest = await client.timestamp()
        trips = client.timestamp_round_trips
        assert [await client.low_resolution_timestamp() for _ in range(100)] == [newest] * 100
        assert client.timestamp_round_trips == trips
        await asyncio.sleep(1.9)
        assert await client.low_resolution_timestamp() == newest
        assert await client.low_resolution_timestamp(1.0) > newest
        await asyncio.sleep(2.1)
        old = pd.last_ts
        assert await asyncio.gather(*(client.low_resolution_timestamp() for _ in range(50)))
        assert pd.last_ts > old
        assert client.timestamp_round_trips <= trips + 3

    with_pd(body)
