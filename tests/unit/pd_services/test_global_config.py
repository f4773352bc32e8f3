"""The global config: paths, names, watches."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, cast

import pytest

from core_py.ports import CallContext, StatusError
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from pd_py.etcd.member import EtcdMember
from pd_py.etcd.watch import WatchService
from pd_py.global_config.handlers import GlobalConfigService
from protos.kvproto import pdpb_pb2 as pb
from tests.support.local_kv import FakeMembers, LocalKv
from tests.unit.pd_kv.commands import compact

CONTEXT = CallContext()


def service() -> tuple[GlobalConfigService, LocalKv]:
    store = LocalKv()
    member = EtcdMember(store, FakeMembers())
    return GlobalConfigService(member, WatchService(member, LoopClock()), lambda: 42), store


def put(name: str, value: str = "", payload: bytes = b"") -> pb.GlobalConfigItem:
    return pb.GlobalConfigItem(name=name, value=value, payload=payload, kind=pb.PUT)


def test_store_and_load() -> None:
    async def main() -> None:
        config, store = service()
        changes = [put("a", payload=b"\x00\xff"), put("b", value="text", payload=b"ignored")]
        await config.store(pb.StoreGlobalConfigRequest(changes=changes), CONTEXT)
        assert store.get("/global/config/a") == b"\x00\xff"
        assert store.commands == 1, "all or none"
        loaded = await config.load(pb.LoadGlobalConfigRequest(names=["b", "none", "a"]), CONTEXT)
        assert [(item.name, item.payload) for item in loaded.items] == [
            ("b", b"text"),
            ("none", b""),
            ("a", b"\x00\xff"),
        ]
        error = loaded.items[1].error
        assert (error.type, error.message) == (pb.GLOBAL_CONFIG_NOT_FOUND, "key none not found")
        assert not loaded.items[0].HasField("error")
        gone = pb.GlobalConfigItem(name="a", kind=pb.DELETE)
        await config.store(pb.StoreGlobalConfigRequest(changes=[gone], config_path="/global/config"), CONTEXT)
        listed = await config.load(pb.LoadGlobalConfigRequest(config_path="/global/config/"), CONTEXT)
        assert [(item.name, item.payload) for item in listed.items] == [("/global/config/b", b"text")]
        assert listed.revision == store.kv.revision

    run_virtual(main())


@pytest.mark.parametrize("path", ["/pd/", "/global/configs", "global/config/", "resource_group/settings/", "/"])
def test_paths_outside_are_refused(path: str) -> None:
    async def main() -> None:
        config, store = service()
        for call in (
            config.store(pb.StoreGlobalConfigRequest(changes=[put("x")], config_path=path), CONTEXT),
            config.load(pb.LoadGlobalConfigRequest(config_path=path), CONTEXT),
            config.load(pb.LoadGlobalConfigRequest(config_path=path, names=["x"]), CONTEXT),
            anext(config.watch(pb.WatchGlobalConfigRequest(config_path=path), CONTEXT)),
        ):
            with pytest.raises(StatusError, match="is not allowed") as caught:
                await call
            assert caught.value.status == "INVALID_ARGUMENT"
        assert store.commands == 0

    run_virtual(main())


def test_the_controller_settings_may_be_listed_but_nothing_else_there() -> None:
    async def main() -> None:
        config, store = service()
        await store.write({"resource_group/controller": b"{}"})
        request = pb.LoadGlobalConfigRequest(config_path="resource_group/controller")
        assert [item.payload for item in (await config.load(request, CONTEXT)).items] == [b"{}"]
        request.names.append("x")
        with pytest.raises(StatusError, match="is not allowed"):
            await config.load(request, CONTEXT)

    run_virtual(main())


def test_requests_are_limited() -> None:
    async def main() -> None:
        config, _ = service()
        many = [put(f"n{number}") for number in range(129)]
        for call in (
            config.store(pb.StoreGlobalConfigRequest(changes=many), CONTEXT),
            config.store(pb.StoreGlobalConfigRequest(changes=[put("n", payload=b"x" * (2 << 20))]), CONTEXT),
            config.load(pb.LoadGlobalConfigRequest(names=[item.name for item in many]), CONTEXT),
        ):
            with pytest.raises(StatusError, match="too many"):
                await call
        with pytest.raises(StatusError, match="duplicate key"):
            await config.store(pb.StoreGlobalConfigRequest(changes=[put("a"), put("a")]), CONTEXT)

    run_virtual(main())


def test_watch_tells_changes_and_what_was_removed() -> None:
    async def main() -> None:
        config, store = service()
        await store.write({"/global/config/a": b"1", "/other": b"x"})
        request = pb.WatchGlobalConfigRequest(config_path="/global/config/", revision=1)
        async with aclosing(cast("Any", config.watch(request, CONTEXT))) as changes:
            response = await anext(changes)
            assert [(one.kind, one.name, one.payload) for one in response.changes] == [
                (pb.PUT, "/global/config/a", b"1")
            ]
            assert response.revision == 2
            await store.write({"/global/config/a": None})
            response = await anext(changes)
            assert [(one.kind, one.payload) for one in response.changes] == [(pb.DELETE, b"1")]
        for _ in range(3):
            await store.write({"/global/config/a": b"2"})
        store.apply(compact(5))
        request.revision = 2
        async with aclosing(cast("Any", config.watch(request, CONTEXT))) as changes:
            response = await anext(changes)
            assert response.header.error.type == pb.DATA_COMPACTED
            assert response.header.error.message == (
                "required watch revision: 2 is smaller than current compact/min revision 5."
            )
            with pytest.raises(StatusError, match="compacted"):
                await anext(changes)

    run_virtual(main())
