"""How a client follows the txn safe point."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from core_py.errors import RpcError
from core_py.runtime.tasks import TaskScope
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2, pdpb_pb2
from tikv_py.client.errors import GcTooEarly, from_key_error
from tikv_py.client.pd.client import PdClient
from tikv_py.client.txn.safe_point import REFRESH_S, TxnSafePoint


class FakePd:
    """Counts questions; `old` knows no GC state."""

    def __init__(self, *, old: bool = False) -> None:
        self.old, self.safe_point, self.asked, self.fails = old, 0, 0, False

    async def get_gc_state(self) -> pdpb_pb2.GCState:
        await self._ask()
        if self.old:
            raise RpcError("/pdpb.PD/GetGCState", status="UNIMPLEMENTED")
        return pdpb_pb2.GCState(txn_safe_point=self.safe_point)

    async def get_gc_safe_point(self) -> int:
        await self._ask()
        return self.safe_point

    async def _ask(self) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.fails:
            raise RpcError("gone")


def run(test: Any, pd: FakePd) -> None:
    async def main() -> None:
        scope = TaskScope("test")
        await test(TxnSafePoint(cast(PdClient, pd), LoopClock(), scope))
        await scope.close()

    run_virtual(main())


def test_it_is_asked_for_in_the_background_and_not_more_often_than_needed() -> None:
    pd = FakePd()
    pd.safe_point = 100

    async def body(safe_point: TxnSafePoint) -> None:
        safe_point.check(99)  # nothing is known yet, and nobody waits
        safe_point.check(99)
        await asyncio.sleep(0.1)
        assert pd.asked == 1
        with pytest.raises(GcTooEarly, match="transaction start ts is 99, txn safe point is 100"):
            safe_point.check(99)
        safe_point.check(100)
        pd.safe_point = 200
        await asyncio.sleep(REFRESH_S)
        assert pd.asked == 1  # an idle client asks nothing
        safe_point.check(150)
        await asyncio.sleep(0.1)
        with pytest.raises(GcTooEarly):
            safe_point.check(150)
        pd.safe_point = 50  # another PD, which is behind
        await asyncio.sleep(REFRESH_S)
        safe_point.check(300)
        await asyncio.sleep(0.1)
        assert safe_point.known == 200

    run(body, pd)


def test_without_pd_what_is_known_stays_in_force() -> None:
    pd = FakePd()
    pd.safe_point = 100

    async def body(safe_point: TxnSafePoint) -> None:
        safe_point.check(100)
        await asyncio.sleep(REFRESH_S)
        pd.fails = True
        safe_point.check(100)
        await asyncio.sleep(REFRESH_S)
        with pytest.raises(GcTooEarly):
            safe_point.check(99)
        pd.fails, pd.safe_point = False, 300
        await asyncio.sleep(REFRESH_S)
        safe_point.check(300)
        await asyncio.sleep(0.1)
        assert safe_point.known == 300

    run(body, pd)


def test_an_old_pd_is_asked_for_its_gc_safe_point() -> None:
    pd = FakePd(old=True)
    pd.safe_point = 100

    async def body(safe_point: TxnSafePoint) -> None:
        safe_point.check(500)
        await asyncio.sleep(REFRESH_S)
        assert (safe_point.known, pd.asked) == (100, 2)
        safe_point.check(500)
        await asyncio.sleep(REFRESH_S)
        assert pd.asked == 3

    run(body, pd)


def test_a_store_says_the_same_in_its_own_words() -> None:
    text = "GC life time is shorter than transaction duration, transaction start ts is 1, txn safe point is 2"
    error = from_key_error(kvrpcpb_pb2.KeyError(abort=text))
    assert isinstance(error, GcTooEarly)
    assert error.mysql_code == 9006
    assert error.message == text == GcTooEarly.at(1, 2).message
