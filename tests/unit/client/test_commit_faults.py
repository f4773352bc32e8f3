"""A commit under faults at each of its steps: exactly one outcome, told truly, and no lock that stays.

The steps are counted, not named, so a step that is added later is tested too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from core_py.region_errors import ServerIsBusy, UndeterminedResult
from tests.unit.client.clusters import TWO_PHASES, with_cluster
from tikv_py.client.errors import TxnAborted, UndeterminedError
from tikv_py.client.testing.cluster import MemoryCluster
from tikv_py.client.testing.faults import LOST, BreakStream
from tikv_py.client.txn.client import DEFAULTS, TxnClient
from tikv_py.client.txn.transaction import Transaction, TxnOptions

A, B, Z = b"a", b"b", b"z"
MODES = {
    "1pc": (DEFAULTS, False),
    "async": (DEFAULTS, True),
    "two phases": (TWO_PHASES, True),
    "pessimistic 1pc": (TxnOptions(pessimistic=True), False),
    "pessimistic": (TxnOptions(pessimistic=True), True),
    "pessimistic two phases": (TxnOptions(True, try_one_pc=False, use_async_commit=False), True),
}
COMMANDS = ("KvPrewrite", "KvCommit", "KvBatchRollback", "KvCheckTxnStatus", "KvPessimisticRollback", "KvTxnHeartBeat")
MAX_STEPS = 12


async def read(client: TxnClient) -> dict[bytes, bytes]:
    return await client.snapshot(await client.timestamp()).batch_get([A, B, Z])


async def write(client: TxnClient, value: bytes) -> Transaction:
    """A transaction with its writes, ready to be committed."""
    txn = await client.begin()
    if txn.pessimistic:
        await txn.lock_keys([A, B, Z])
    for key in (A, B, Z):
        txn.put(key, value)
    return txn


async def prepare(cluster: MemoryCluster, client: TxnClient, mode: str) -> None:
    options, split = MODES[mode]
    if split:
        cluster.split(b"m")
    client.defaults = options
    await (await write(client, b"old")).commit()
    await client.drain(30)
    assert await read(client) == {A: b"old", B: b"old", Z: b"old"}


async def check_one_outcome(cluster: MemoryCluster, client: TxnClient, committed: bool | None) -> None:
    """All or nothing, as was told (None = nothing was told), and no locks are left when everybody has had time."""
    await client.drain(60)
    found = await read(client)
    values = set(found.values())
    assert len(values) == 1
    assert len(found) == 3
    if committed is not None:
        assert values == {b"new" if committed else b"old"}
    await asyncio.sleep(30)
    overwrite = await client.begin(pessimistic=False)
    for key in (A, B, Z):
        overwrite.put(key, b"last")
    await overwrite.commit()
    await client.drain(30)
    assert not cluster.storage.locks()


def at_step(number: int, fault: Callable[[], Any]) -> tuple[Callable[..., Any], list[str]]:
    """A hook that has `fault` happen to the n-th command of a commit."""
    seen: list[str] = []

    def hook(_store: Any, name: str, _request: Any) -> Any:
        if name not in COMMANDS:
            return None
        seen.append(name)
        return fault() if len(seen) == number + 1 else None

    return hook, seen


def broken() -> Any:
    raise BreakStream


FAULTS: dict[str, tuple[bool, Callable[[], Any]]] = {
    "request lost": (False, lambda: LOST),
    "answer lost": (True, lambda: LOST),
    "connection broken before": (False, broken),
    "connection broken after": (True, broken),
    "undetermined, not done": (False, lambda: UndeterminedResult(2)),
    "busy": (False, lambda: ServerIsBusy("full")),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("mode", MODES)
def test_a_fault_at_each_step(mode: str, fault: str) -> None:
    after, act = FAULTS[fault]
    for step in range(MAX_STEPS):
        steps: list[str] = []

        async def body(cluster: MemoryCluster, client: TxnClient, step: int = step, steps: list[str] = steps) -> None:
            await prepare(cluster, client, mode)
            txn = await write(client, b"new")
            hook, seen = at_step(step, act)
            (cluster.after if after else cluster.before).append(hook)
            committed = True
            try:
                await txn.commit()
            except TxnAborted:
                committed = False
            steps += seen
            await check_one_outcome(cluster, client, committed)

        with_cluster(body)
        if len(steps) <= step:
            return
    raise AssertionError(f"a commit took more than {MAX_STEPS} commands")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("after", [False, True])
def test_no_answers_from_some_step_on(mode: str, after: bool) -> None:
    for step in range(4):

        async def body(cluster: MemoryCluster, client: TxnClient, step: int = step) -> None:
            await prepare(cluster, client, mode)
            txn = await write(client, b"new")
            seen: list[str] = []

            def lose(_store: Any, name: str, _request: Any) -> None:
                seen.append(name)
                if len(seen) > step:
                    raise BreakStream

            hooks = cluster.after if after else cluster.before
            hooks.append(lose)
            committed: bool | None = True
            try:
                await txn.commit()
            except UndeterminedError:
                committed = None
            except Exception:  # whatever was said, it was a definite no
                committed = False
            hooks.clear()
            await check_one_outcome(cluster, client, committed)

        with_cluster(body)


@pytest.mark.parametrize("mode", MODES)
def test_a_split_at_each_step(mode: str) -> None:
    for after in (False, True):
        for step in range(MAX_STEPS):
            steps: list[str] = []

            async def body(
                cluster: MemoryCluster,
                client: TxnClient,
                step: int = step,
                steps: list[str] = steps,
                after: bool = after,
            ) -> None:
                await prepare(cluster, client, mode)
                txn = await write(client, b"new")
                hook, seen = at_step(step, lambda: cluster.split(B, b"y"))
                (cluster.after if after else cluster.before).append(hook)
                await txn.commit()
                await client.drain(30)
                steps += seen
                await check_one_outcome(cluster, client, committed=True)

            with_cluster(body)
            if len(steps) <= step:
                break


@pytest.mark.parametrize("mode", MODES)
def test_a_cancellation_at_each_await(mode: str) -> None:
    for turns in range(200):
        finished: list[bool] = []

        async def body(
            cluster: MemoryCluster, client: TxnClient, turns: int = turns, finished: list[bool] = finished
        ) -> None:
            await prepare(cluster, client, mode)
            txn = await write(client, b"new")
            commit = asyncio.get_running_loop().create_task(txn.commit())
            for _ in range(turns):
                await asyncio.sleep(0)
            told = True if commit.done() else None
            commit.cancel()
            await asyncio.gather(commit, return_exceptions=True)
            if told:
                finished.append(True)
            if not txn.is_closed:  # the commit had not begun
                await txn.rollback()
            await client.drain(60)
            assert not cluster.storage.locks()
            await check_one_outcome(cluster, client, told)

        with_cluster(body)
        if finished:
            return
    raise AssertionError("the commit never ended")
