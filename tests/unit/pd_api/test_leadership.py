"""Who answers: each member its own pages, the leader the rest; requests are sent on once, and never round in circles."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from pd_py.api import middleware
from tests.unit.pd_api.member import API, Client, new_member, serving
from tests.unit.pd_api.test_regions import get


async def test_a_follower_sends_requests_to_the_leader() -> None:
    leader, follower = await new_member("pd1"), await new_member("pd2")
    follower.leads = False
    async with serving(leader) as at_leader, serving(follower) as at_follower:
        follower.members.urls = {"pd1": str(at_leader.make_url("/"))}
        shown = await get(at_follower, "/region/key/m%FE")
        assert shown["id"] == 2
        response = await at_follower.post(API + "/store/1/label", json={"rack": "r1"})
        assert await response.json() == "The store's label is updated."
        assert [label.value for label in leader.cluster.stores_info.get(1).meta.labels] == ["z1", "r1"]
        assert len(follower.cluster.stores_info.get(1).meta.labels) == 1
        assert await get(at_follower, "/region/id/9", 404) == "[PD:region:ErrRegionNotFound]region 9 not found"
        everything = await get(at_follower, "/regions")
        assert everything["count"] == 3


async def test_pages_of_each_member_are_not_sent_on() -> None:
    follower = await new_member("pd2")
    follower.leads = False
    follower.members.leader = ""
    async with serving(follower) as http:
        assert (await get(http, "/status"))["start_timestamp"] == 1_699_999_000
        assert (await get(http, "/version"))["version"].startswith("v")
        assert (await http.get(API + "/ping")).status == 200
        assert (await http.get("/pd/ping")).status == 200
        assert len(await get(http, "/health")) == 3
        assert (await get(http, "/config"))["name"] == "pd2"
        response = await http.post(API + "/admin/log", json="debug")
        assert await response.json() == "The log level is updated."
        assert follower.levels == ["debug"]
        response = await http.post(API + "/admin/log", data=b"debug")
        assert response.status == 400


async def test_without_a_leader_a_request_waits_then_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "WAIT_FOR_LEADER_S", 0.05)
    monkeypatch.setattr(middleware, "FIRST_WAIT_S", 0.01)
    follower = await new_member("pd2")
    follower.leads = False
    follower.members.leader = ""
    async with serving(follower) as http:
        response = await http.get(API + "/stores")
        assert (response.status, await response.text()) == (
            503,
            "[PD:apiutil:ErrRedirectNoLeader]redirect finds no leader",
        )
        monkeypatch.setattr(middleware, "WAIT_FOR_LEADER_S", 5.0)
        asyncio.get_running_loop().call_later(0.05, setattr, follower, "leads", True)
        assert (await get(http, "/stores"))["count"] == 4


async def test_two_members_that_take_each_other_for_the_leader() -> None:
    one, other = await new_member("pd1"), await new_member("pd2")
    one.leads = other.leads = False
    one.members.leader, other.members.leader = "pd2", "pd1"
    async with serving(one) as at_one, serving(other) as at_other:
        one.members.urls = {"pd2": str(at_other.make_url("/"))}
        other.members.urls = {"pd1": str(at_one.make_url("/"))}
        response = await at_one.get(API + "/stores")
        assert (response.status, await response.text()) == (
            500,
            "[PD:apiutil:ErrRedirectToNotLeader]redirect to not leader",
        )


async def test_a_member_that_was_just_elected_takes_what_is_sent_to_it() -> None:
    member = await new_member("pd2")
    member.leads = False
    member.members.leader = ""  # nobody else leads
    async with serving(member) as http:
        asyncio.get_running_loop().call_later(0.05, setattr, member, "leads", True)
        response = await http.get(API + "/stores", headers={"PD-Redirector": "pd1"})
        assert (response.status, (await response.json())["count"]) == (200, 4)


async def test_a_leader_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "WAIT_FOR_LEADER_S", 0.1)
    leader, follower = await new_member("pd1"), await new_member("pd2")
    follower.leads = False
    follower.members.urls = {"pd1": "http://127.0.0.1:1"}
    async with serving(leader) as at_leader, serving(follower) as http:
        response = await http.get(API + "/stores")
        assert (response.status, await response.text()) == (500, "[PD:apiutil:ErrRedirect]redirect failed")
        monkeypatch.setattr(middleware, "WAIT_FOR_LEADER_S", 5.0)
        there = {"pd1": str(at_leader.make_url("/"))}
        asyncio.get_running_loop().call_later(0.05, setattr, follower.members, "urls", there)
        assert (await get(http, "/stores"))["count"] == 4, "it is looked for again, for nothing was sent"


async def test_a_leader_that_breaks_off_is_not_asked_twice() -> None:
    asked = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    follower = await new_member("pd2")
    follower.leads = False
    follower.members.urls = {"pd1": url}
    async with serving(follower) as http:
        response = await http.post(API + "/leader/resign")
        assert (response.status, await response.text()) == (500, "[PD:apiutil:ErrRedirect]redirect failed")
    server.close()
    assert asked == 1


async def test_headers_tell_who_asked_and_who_sent_on() -> None:
    seen: list[dict[str, str]] = []

    async def page(request: web.Request) -> web.Response:
        seen.append(dict(request.headers) | {"body": await request.text(), "path": request.raw_path})
        return web.Response(text="ok", status=418, headers={"X-Kept": "yes"})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", page)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    follower = await new_member("pd2")
    follower.leads = False
    follower.members.urls = {"pd1": f"http://127.0.0.1:{runner.addresses[0][1]}"}
    try:
        async with serving(follower) as http:
            response = await http.post(
                URL(f"{API}/stores/limit?a=%2F", encoded=True), data=b"body", headers={"X-Caller-ID": "me"}
            )
            assert (response.status, await response.text(), response.headers["X-Kept"]) == (418, "ok", "yes")
    finally:
        await runner.cleanup()
    (found,) = seen
    assert (found["PD-Redirector"], found["X-Caller-ID"], found["X-Forwarded-For"]) == ("pd2", "me", "127.0.0.1")
    assert (found["body"], found["path"]) == ("body", f"{API}/stores/limit?a=%2F")


async def test_a_follower_answers_region_pages_when_it_may() -> None:
    follower = await new_member("pd2")
    follower.leads = False
    allow = {"PD-Allow-follower-handle": "true"}

    async def ask(http: Client, path: str) -> tuple[int, Any]:
        response = await http.get(API + path, headers=allow)
        return response.status, await response.json()

    async with serving(follower) as http:
        status, text = await ask(http, "/region/id/2")
        assert (status, "ErrNotBootstrapped" in text) == (500, True)
        follower.shows_synced = True
        status, shown = await ask(http, "/region/id/2")
        assert (status, shown["id"]) == (200, 2)
        assert (await ask(http, "/stores"))[0] == 500


async def test_the_size_of_a_body_is_limited() -> None:
    member = await new_member()
    async with serving(member) as http:
        response = await http.post(API + "/config/rules", data=io.BytesIO(b"[" + b" " * (5 << 20) + b"]"))
        assert response.status == 413
        response = await http.post(API + "/config/rules", data=b"[" * 100_000)
        assert response.status == 400
