"""Several jobs at once: their order, the bound, the first failure, cancellation."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from core_py.errors import RpcError
from core_py.sim.loop import run_virtual
from tikv_py.client.concurrency import run_all


class Jobs:
    """Jobs that take time, and how many run at once."""

    def __init__(self) -> None:
        self.running = self.most = self.done = self.cancelled = 0

    async def take(self, seconds: float, result: object) -> object:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        if isinstance(result, BaseException):
            raise result
        self.done += 1
        return result


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_results_are_in_the_order_of_jobs_and_the_bound_holds(limit: int) -> None:
    jobs = Jobs()

    async def body() -> None:
        made = [partial(jobs.take, (number * 7 % 10) / 10, number) for number in range(50)]
        assert await run_all(made, limit) == list(range(50))

    run_virtual(body())
    assert jobs.most == min(limit, 50)


def test_nothing_to_do_is_done() -> None:
    async def body() -> None:
        assert await run_all([]) == []

    run_virtual(body())


def test_the_first_failure_cancels_the_others_and_is_raised_as_it_is() -> None:
    jobs = Jobs()
    failure = RpcError("gone")

    async def body() -> None:
        made = [partial(jobs.take, 5.0, number) for number in range(20)]
        made[3] = partial(jobs.take, 1.0, failure)
        with pytest.raises(RpcError) as caught:
            await run_all(made, 8)
        assert caught.value is failure
        assert asyncio.get_running_loop().time() == pytest.approx(1.0)

    run_virtual(body())
    assert (jobs.done, jobs.cancelled, jobs.running) == (0, 7, 0)


def test_a_cancelled_caller_leaves_nothing_running() -> None:
    jobs = Jobs()

    async def body() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await run_all([partial(jobs.take, 5.0, number) for number in range(20)], 8)

    run_virtual(body())
    assert (jobs.cancelled, jobs.running) == (8, 0)
