"""Resource groups: settings, tokens shared fairly, nothing above the rate."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_py.errors import RpcError
from core_py.ports import Channel, StatusError, methods_of
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from core_py.sim.network import MemoryNetwork
from pd_py.metastore.errors import NotLeader
from pd_py.resource import manager as resource_manager
from pd_py.resource import service
from pd_py.resource.bucket import DEBT_PERIODS, INITIAL_TOKENS, MODERATED, UNLIMITED, TokenBucket
from pd_py.resource.manager import ResourceManager
from protos.kvproto import resource_manager_pb2 as pb
from tests.support.local_kv import LocalKv

METHODS = methods_of(pb.DESCRIPTOR.services_by_name["ResourceManager"])
Caller = Callable[[str, Any], Awaitable[Any]]


def group(name: str, fill_rate: int = 1000, burst_limit: int = 1000, **fields: Any) -> pb.ResourceGroup:
    made = pb.ResourceGroup(name=name, mode=pb.RUMode, **fields)
    made.r_u_settings.r_u.settings.fill_rate = fill_rate
    made.r_u_settings.r_u.settings.burst_limit = burst_limit
    return made


def ask(name: str, tokens: float, client: int = 1) -> pb.TokenBucketsRequest:
    request = pb.TokenBucketsRequest(client_unique_id=client, target_request_period_ms=1000)
    item = request.requests.add(resource_group_name=name)
    item.ru_items.request_r_u.add(type=pb.RU, value=tokens)
    item.consumption_since_last_request.r_r_u = tokens
    return request


def run(body: Callable[[Caller, Channel, LocalKv], Awaitable[None]]) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        store = LocalKv()
        state = ResourceManager(store, LoopClock())

        def leader() -> ResourceManager:
            if not store.is_leader:
                raise StatusError("UNAVAILABLE", "not leader")
            return state

        listener = await network.transport("pd").serve("pd:0", [service.service(leader)])
        channel = network.transport("client").connect(listener.address)

        async def call(name: str, request: Any) -> Any:
            return await channel.unary(METHODS[name], request, timeout_s=5)

        await body(call, channel, store)
        await channel.close()
        await listener.stop(0)

    run_virtual(main())


def test_the_default_group_is_there_and_unlimited() -> None:
    async def body(call: Caller, channel: Channel, store: LocalKv) -> None:
        found = (await call("GetResourceGroup", pb.GetResourceGroupRequest(resource_group_name="default"))).group
        rates = found.r_u_settings.r_u.settings
        assert (found.mode, found.priority, rates.fill_rate, rates.burst_limit) == (pb.RUMode, 8, 2147483647, -1)
        assert found.keyspace_id.value == 0xFFFFFFFF
        stream = channel.stream(METHODS["AcquireTokenBuckets"])
        await stream.send(ask("default", 1e12))
        granted = (await stream.receive()).responses[0].granted_r_u_tokens[0]
        assert (granted.granted_tokens.tokens, granted.trickle_time_ms) == (1e12, 0)
        assert granted.granted_tokens.settings.burst_limit == -1
        stream.cancel()

    run(body)


def test_groups_are_added_changed_and_removed() -> None:
    async def body(call: Caller, channel: Channel, store: LocalKv) -> None:
        assert (
            await call("AddResourceGroup", pb.PutResourceGroupRequest(group=group("rg", priority=4)))
        ).body == "Success!"
        stored = pb.ResourceGroup.FromString(store.get("resource_group/settings/rg") or b"")
        assert (stored.name, stored.r_u_settings.r_u.settings.fill_rate, stored.r_u_settings.r_u.tokens) == (
            "rg",
            1000,
            0,
        )
        listed = (await call("ListResourceGroups", pb.ListResourceGroupsRequest())).groups
        assert [one.name for one in listed] == ["default", "rg"]
        await call("ModifyResourceGroup", pb.PutResourceGroupRequest(group=group("rg", 5000, -1)))
        wanted = pb.GetResourceGroupRequest(resource_group_name="rg")
        wanted.keyspace_id.value = 0
        changed = (await call("GetResourceGroup", wanted)).group
        assert (changed.r_u_settings.r_u.settings.fill_rate, changed.priority, changed.keyspace_id.value) == (
            5000,
            0,
            0,
        )
        await call("ModifyResourceGroup", pb.PutResourceGroupRequest(group=group("default", 10, 10)))
        await call("DeleteResourceGroup", pb.DeleteResourceGroupRequest(resource_group_name="rg"))
        listed = (await call("ListResourceGroups", pb.ListResourceGroupsRequest())).groups
        assert [(one.name, one.r_u_settings.r_u.settings.fill_rate) for one in listed] == [("default", 10)]

    run(body)


def test_refusals() -> None:
    async def body(call: Caller, channel: Channel, store: LocalKv) -> None:
        await call("AddResourceGroup", pb.PutResourceGroupRequest(group=group("rg")))
        before = store.kv.image()
        other = pb.GetResourceGroupRequest(resource_group_name="default")
        other.keyspace_id.value = 7
        raw = pb.ResourceGroup(name="rg", mode=pb.RawMode)
        no_settings = pb.ResourceGroup(name="rg", mode=pb.RUMode)
        for name, request, text in (
            (
                "GetResourceGroup",
                pb.GetResourceGroupRequest(resource_group_name="no"),
                "the no resource group does not",
            ),
            ("GetResourceGroup", other, "the keyspace does not exist with id 7"),
            ("AddResourceGroup", pb.PutResourceGroupRequest(group=group("")), "please check the group name"),
            ("AddResourceGroup", pb.PutResourceGroupRequest(group=group("x" * 33)), "please check the group name"),
            ("AddResourceGroup", pb.PutResourceGroupRequest(group=group("x", priority=17)), "check the group priority"),
            ("AddResourceGroup", pb.PutResourceGroupRequest(group=raw), "please check the group mode"),
            ("ModifyResourceGroup", pb.PutResourceGroupRequest(group=group("no")), "resource group does not exist"),
            ("ModifyResourceGroup", pb.PutResourceGroupRequest(group=raw), "only support reconfigure in same mode"),
            ("ModifyResourceGroup", pb.PutResourceGroupRequest(group=no_settings), "RU mode should set RU settings"),
            ("ModifyResourceGroup", pb.PutResourceGroupRequest(group=group("rg", priority=17)), "should be in"),
            ("DeleteResourceGroup", pb.DeleteResourceGroupRequest(resource_group_name="default"), "reserved group"),
            ("DeleteResourceGroup", pb.DeleteResourceGroupRequest(resource_group_name="no"), "does not exist"),
        ):
            with pytest.raises(RpcError, match=text):
                await call(name, request)
        assert store.kv.image() == before
        store.refusal = NotLeader("not leader")
        with pytest.raises(RpcError, match="not leader") as caught:
            await call("AddResourceGroup", pb.PutResourceGroupRequest(group=group("new")))
        assert caught.value.status == "UNAVAILABLE"
        store.is_leader = False
        with pytest.raises(RpcError, match="not leader"):
            await call("ListResourceGroups", pb.ListResourceGroupsRequest())

    run(body)


def test_settings_that_clients_spoilt_are_as_if_not_there() -> None:
    async def body(call: Caller, channel: Channel, store: LocalKv) -> None:
        await store.write(
            {
                "resource_group/settings/bad": b"\xff\xff",
                "resource_group/settings/default": b"\xff",
                "resource_group/settings/other": group("name").SerializeToString(),
            }
        )
        listed = (await call("ListResourceGroups", pb.ListResourceGroupsRequest())).groups
        assert [(one.name, one.priority) for one in listed] == [("default", 8)]
        with pytest.raises(RpcError, match="does not exist"):
            await call("GetResourceGroup", pb.GetResourceGroupRequest(resource_group_name="bad"))

    run(body)


def test_tokens_over_the_stream_and_what_was_consumed() -> None:
    async def body(call: Caller, channel: Channel, store: LocalKv) -> None:
        await call("AddResourceGroup", pb.PutResourceGroupRequest(group=group("rg", 1000, 500)))
        stream = channel.stream(METHODS["AcquireTokenBuckets"])
        await stream.send(ask("rg", 500))
        granted = (await stream.receive()).responses[0].granted_r_u_tokens[0]
        assert (granted.granted_tokens.tokens, granted.trickle_time_ms) == (500, 0)
        await stream.send(ask("rg", 5000))
        granted = (await stream.receive()).responses[0].granted_r_u_tokens[0]
        assert (granted.granted_tokens.tokens, granted.trickle_time_ms) == (1000, 1000)
        await stream.send(ask("none", 1))
        assert len((await stream.receive()).responses) == 0
        background = ask("rg", math.inf)
        background.requests[0].is_background = True
        await stream.send(background)
        assert len((await stream.receive()).responses) == 0
        wanted = pb.GetResourceGroupRequest(resource_group_name="rg", with_ru_stats=True)
        assert (await call("GetResourceGroup", wanted)).group.RUStats.r_r_u == 5500
        background.requests[0].is_tiflash = True
        await stream.send(background)
        with pytest.raises(RpcError, match="background and tiflash cannot be true at the same time"):
            await stream.receive()

    run(body)


def test_the_number_of_groups_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource_manager, "MAX_GROUPS", 1)

    async def body(call: Caller, channel: Channel, store: LocalKv) -> None:
        for _ in range(2):
            await call("AddResourceGroup", pb.PutResourceGroupRequest(group=group("a")))
        with pytest.raises(RpcError, match="already"):
            await call("AddResourceGroup", pb.PutResourceGroupRequest(group=group("b")))

    run(body)


def test_a_bucket_gives_each_of_those_who_ask_a_fair_share_of_the_rate() -> None:
    bucket = TokenBucket(0.0)
    bucket.tokens = 0.0
    given = {1: 0.0, 2: 0.0, 3: 0.0}
    for second in range(1, 61):
        for client in given:
            given[client] += bucket.request(10_000, client, 1000, float(second), fill_rate=900, burst_limit=900).tokens
    assert sum(given.values()) <= 900 * 60 + DEBT_PERIODS * 900
    assert sum(given.values()) >= 900 * 60
    assert max(given.values()) < 3 * min(given.values())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.integers(1, 4), st.floats(allow_nan=True, width=32), st.integers(0, 10_000))
    ),
    st.integers(0, 5000),
    st.sampled_from([0, 100, 100_000, MODERATED, UNLIMITED]),
)
def test_no_more_goes_out_than_the_rate_lets_in(
    requests: list[tuple[float, int, float, int]], rate: int, burst: int
) -> None:
    bucket = TokenBucket(0.0)
    now = total = 0.0
    longest_s = 0.0
    for wait, client, asked, period_ms in requests:
        now += wait
        longest_s = max(longest_s, (period_ms or 5000) / 1000)
        grant = bucket.request(asked, client, period_ms, now, fill_rate=rate, burst_limit=burst)
        assert grant.tokens >= 0
        assert not math.isnan(grant.tokens)
        if math.isfinite(asked):
            assert grant.tokens <= max(asked, 0)
        total += grant.tokens
    if burst != UNLIMITED:
        income = rate * (10 if burst == MODERATED else 1)
        most = INITIAL_TOKENS + income * now + DEBT_PERIODS * income * longest_s
        assert total <= most * (1 + 1e-9) + 1e-6


def test_clients_that_went_away_are_forgotten() -> None:
    bucket = TokenBucket(0.0)
    for client in range(10_000):
        bucket.request(1, client, 1000, 0.0, fill_rate=1, burst_limit=1)
    assert len(bucket._clients) <= 4096
    bucket.request(1, 1, 1000, 1e6, fill_rate=1, burst_limit=1)
    assert len(bucket._clients) == 1
