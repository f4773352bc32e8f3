"""Back-off: growth and caps of every kind, budgets, exempt kinds, branches, the error at the end, and cancellation."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_py.sim.loop import run_virtual
from tikv_py.client.errors import BudgetExhausted, PdTimeout, RegionUnavailable, TikvBusy, TikvTimeout
from tikv_py.client.region import backoff as kinds
from tikv_py.client.region.backoff import Backoffer, BackoffKind, Jitter
from tikv_py.client.rpc.stats import ClientStats, RegionCacheStats, RpcStats

KINDS = sorted((value for value in vars(kinds).values() if isinstance(value, BackoffKind)), key=lambda kind: kind.name)


def virtual(test: Callable[[], Awaitable[None]]) -> None:
    async def body() -> None:
        await test()

    run_virtual(body())


async def exhaust(backoffer: Backoffer, kind: BackoffKind, cause: str, *, at_most_ms: int | None = None) -> None:
    """Back off until the budget ends it."""
    while True:
        await backoffer.backoff(kind, cause, at_most_ms=at_most_ms)


async def run_through(backoffer: Backoffer, order: list[BackoffKind]) -> None:
    for kind in order:
        await backoffer.backoff(kind, "cause")
    await exhaust(backoffer, kinds.REGION_MISS, "cause")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_pauses_double_up_to_the_cap(kind: BackoffKind) -> None:
    async def body() -> None:
        backoffer = Backoffer(10**9, random.Random(1))
        for number in range(14):
            before = asyncio.get_running_loop().time()
            await backoffer.backoff(kind, "cause")
            slept_ms = round((asyncio.get_running_loop().time() - before) * 1000)
            full = min(kind.cap_ms, kind.base_ms << number)
            low = {Jitter.NO: full, Jitter.EQUAL: full // 2}.get(kind.jitter, 0)
            assert max(1, low) <= slept_ms <= full
        assert backoffer.spent_ms + backoffer.exempt_ms > 0
        assert (backoffer.exempt_ms > 0) == (kind.exempt_ms > 0)

    virtual(body)


@pytest.mark.parametrize("jitter", [Jitter.FULL, Jitter.DECORRELATED])
@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_other_jitters_stay_between_one_and_the_cap(jitter: Jitter, seed: int) -> None:
    kind = BackoffKind("test", 10, 300, jitter, TikvTimeout)

    async def body() -> None:
        backoffer = Backoffer(10**9, random.Random(seed))
        spent = 0
        for _ in range(20):
            await backoffer.backoff(kind, "cause")
            assert 1 <= backoffer.spent_ms - spent <= 300
            spent = backoffer.spent_ms

    virtual(body)


@given(st.integers(1, 5000), st.lists(st.sampled_from(KINDS), min_size=200, max_size=200), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_a_budget_is_used_up_and_never_overrun(budget_ms: int, order: list[BackoffKind], seed: int) -> None:
    async def body() -> None:
        backoffer = Backoffer(budget_ms, random.Random(seed))
        began = asyncio.get_running_loop().time()
        with pytest.raises(BudgetExhausted):
            await run_through(backoffer, order)
        assert backoffer.spent_ms == budget_ms
        slept_ms = (asyncio.get_running_loop().time() - began) * 1000
        assert slept_ms == pytest.approx(budget_ms + backoffer.exempt_ms)

    virtual(body)


def test_the_kind_that_slept_longest_is_raised() -> None:
    async def body() -> None:
        backoffer = Backoffer(1500, random.Random(1))
        for _ in range(2):
            await backoffer.backoff(kinds.PD_RPC, "PD is silent")
        with pytest.raises(PdTimeout) as caught:
            await exhaust(backoffer, kinds.REGION_MISS, "moved", at_most_ms=30)
        text = str(caught.value)
        assert text.startswith("regionMiss: budget of 1500 ms is spent after 1500 ms of waiting (pdRPC x2 ")
        assert text.endswith("last causes: 1. moved; 2. moved; 3. moved")
        assert caught.value.mysql_code == 9001

    virtual(body)


def test_a_busy_store_is_waited_for_beside_the_budget() -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        backoffer = Backoffer(1000, random.Random(1))
        for _ in range(20):
            await backoffer.pause(kinds.SERVER_BUSY, "busy", 5000)
        assert (backoffer.spent_ms, backoffer.exempt_ms) == (0, 100_000)
        await backoffer.backoff(kinds.REGION_MISS, "moved")
        with pytest.raises(TikvBusy):
            await exhaust(backoffer, kinds.SERVER_BUSY, "busy")
        # Beside the budget, but for ten minutes at most.
        assert 600 <= loop.time() < 611

    virtual(body)


def test_a_spent_budget_names_what_was_charged_and_not_the_busy_store() -> None:
    async def body() -> None:
        backoffer = Backoffer(100, random.Random(1))
        await backoffer.pause(kinds.SERVER_BUSY, "busy", 5000)
        with pytest.raises(RegionUnavailable) as caught:
            await exhaust(backoffer, kinds.REGION_MISS, "moved")
        assert "after 5100 ms of waiting" in str(caught.value)

    virtual(body)


def test_without_a_budget_the_first_pause_fails() -> None:
    async def body() -> None:
        with pytest.raises(TikvTimeout, match=r"\(none\); last causes: 1\. gone"):
            await Backoffer(0, random.Random(1)).backoff(kinds.TIKV_RPC, "gone")

    virtual(body)


def test_parallel_branches_cost_as_much_as_the_slowest() -> None:
    async def body() -> None:
        backoffer = Backoffer(10_000, random.Random(1))
        await backoffer.backoff(kinds.REGION_MISS, "before")
        slow, fast = backoffer.fork(), backoffer.fork()
        await fast.backoff(kinds.REGION_MISS, "fast")
        for _ in range(3):
            await slow.backoff(kinds.TIKV_RPC, "slow")
        assert backoffer.spent_ms == 2
        backoffer.join(slow)
        backoffer.join(fast)
        assert backoffer.spent_ms == slow.spent_ms
        backoffer.budget_ms = backoffer.spent_ms
        with pytest.raises(BudgetExhausted, match=r"tikvRPC x3 .* 1\. slow; 2\. slow; 3\. last"):
            await backoffer.backoff(kinds.REGION_MISS, "last")
        # A branch goes on where its parent was.
        before = fast.spent_ms
        await fast.backoff(kinds.REGION_MISS, "again")
        assert fast.spent_ms - before == 8

    virtual(body)


def test_a_callers_own_deadline_ends_a_pause_at_once() -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        backoffer = Backoffer(100_000, random.Random(1))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await backoffer.pause(kinds.SERVER_BUSY, "busy", 9000)
        assert loop.time() == pytest.approx(0.5)

    virtual(body)


def test_pauses_are_counted_by_kind() -> None:
    async def body() -> None:
        stats = ClientStats(RpcStats(), RegionCacheStats())
        backoffer = Backoffer(100_000, random.Random(1), stats)
        for _ in range(3):
            await backoffer.backoff(kinds.REGION_MISS, "moved")
        await backoffer.fork().backoff(kinds.TIKV_RPC, "gone")
        assert stats.retries == {"regionMiss": 3, "tikvRPC": 1}
        assert stats.retry_ms["regionMiss"] == 2 + 4 + 8
        assert ("retries", "regionMiss", 3) in list(stats.rows())

    virtual(body)
