"""`pd-py ctl` on a real cluster: any of three members is asked, and asking goes on when the leader is killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from tidb_py.testing import playground as pg

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("processes")]


def ctl(urls: str, command: str) -> Any:
    """What a command answers."""
    said = subprocess.run(
        [sys.executable, "-m", "pd_py.ctl", "-u", urls, *command.split()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 0, (command, said.stderr)
    return json.loads(said.stdout) if said.stdout[:1] in '{["' else said.stdout


def until(urls: str, command: str, right: Any) -> Any:
    """The answer once it is right."""
    end = time.monotonic() + 30
    while not right(answer := ctl(urls, command)):
        assert time.monotonic() < end, answer
    return answer


def test_a_cluster_is_looked_at_and_operated() -> None:
    with pg.playground("--db", "0", "--pd", "3") as cluster:
        members = until(f"http://{cluster.pd}", "member", lambda found: len(found["members"]) == 3)
        urls = {one["name"]: one["client_urls"][0] for one in members["members"]}
        leader = members["leader"]["name"]
        others = [name for name in urls if name != leader]
        assert {ctl(url, "member leader")["name"] for url in urls.values()} == {leader}

        stores = until(urls[others[0]], "store", lambda found: found["count"] == 3)
        assert {one["store"]["state_name"] for one in stores["stores"]} == {"Up"}
        regions = until(urls[others[1]], "region", lambda found: len(found["regions"][0]["peers"]) == 3)
        region = regions["regions"][0]
        target = next(one["store_id"] for one in region["peers"] if one["store_id"] != region["leader"]["store_id"])
        assert "Success!" in ctl(urls[others[0]], f"operator add transfer-leader {region['id']} {target}")
        until(urls[leader], f"region {region['id']}", lambda found: found["leader"]["store_id"] == target)
        assert "SUCCESS" in until(urls[leader], f"operator check {region['id']}", lambda said: "SUCCESS" in said)

        assert "Success!" in ctl(urls[others[0]], "config set leader-schedule-limit 9")
        assert "Success!" in ctl(urls[others[0]], f"member leader transfer {others[0]}")
        until(urls[leader], "member leader", lambda found: found["name"] == others[0])
        cluster.kill("pd", int(others[0].rpartition("-")[2]))
        everyone = ",".join(urls.values())
        assert ctl(everyone, "config show schedule")["leader-schedule-limit"] == 9
        health = {one["name"]: one["health"] for one in ctl(everyone, "health")}
        assert health == {others[0]: False, others[1]: True, leader: True}
