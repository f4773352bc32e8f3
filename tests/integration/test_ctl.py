"""`tikv-py ctl` as operators use it: on a running store of a playground, and on the same store's directory when it is stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from protos.kvproto import raft_serverpb_pb2 as serverpb
from tidb_py.testing import playground as pg
from tikv_py.client.connect import connect_txn
from tikv_py.debug.escape import escape
from tikv_py.engine.port import CF_RAFT
from tikv_py.engine.rocks import RocksEngine
from tikv_py.mvcc.keys import data_key
from tikv_py.raftstore import keys

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("processes")]

TIKV_PORT = 20160


class Ctl:
    """The command line with its target."""

    def __init__(self, *target: str) -> None:
        self._target = target

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tikv_py.server", "ctl", *self._target, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def text(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def values(self, *arguments: str) -> list[Any]:
        """One value per line of JSON."""
        return [json.loads(line) for line in self.text("--json", *arguments).splitlines()]

    def refusal(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode != 0
        assert done.stderr.startswith("error: ")
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        return done.stderr


async def write_some(cluster: pg.PlaygroundCluster) -> None:
    async with await connect_txn([cluster.pd]) as client:
        async with client.begin() as txn:
            txn.put(b"apple", b"red")
            txn.put(b"plum", b"blue" * 100)
        async with client.begin() as txn:
            txn.put(b"apple", b"green")


async def test_a_cluster_is_set_back() -> None:
    with pg.playground("--db", "0", "--kv", "1") as cluster:
        async with await connect_txn([cluster.pd]) as client:
            async with client.begin() as txn:
                txn.put(b"apple", b"red")
            version = await client.timestamp()
            async with client.begin() as txn:
                txn.put(b"apple", b"green")
            assert "is not a timestamp of before" in Ctl().refusal("flashback", "--pd", cluster.pd, "-v", str(1 << 62))
            assert Ctl().values("flashback", "--pd", cluster.pd, "-v", str(version)) == [{"regions": 1}]
            assert await client.snapshot(await client.timestamp()).get(b"apple") == b"red"


async def test_a_running_and_a_stopped_store(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    apple = escape(data_key(b"apple"))
    config = tmp_path / "kv.toml"
    config.write_text("[debug]\nfailpoints = true\n")
    arguments = ("--db", "0", "--kv", "1", "--data-dir", str(directory))
    with pg.playground(*arguments, "--kv.config", str(config)) as cluster:
        await write_some(cluster)
        remote = Ctl("--host", f"127.0.0.1:{TIKV_PORT + cluster.port_offset}")
        local = Ctl("--data-dir", str(directory / "tikv-0" / "data"))
        check_running_store(remote, apple)
        assert "its store is running" in local.refusal("raft", "region", "--all-regions")
    check_stopped_store(local, apple)
    assert "no store answers" in remote.refusal("store")


def check_running_store(ctl: Ctl, apple: str) -> None:
    ((before,),) = ctl.values("raft", "region", "--all-regions")
    region_id = str(before["region_id"])
    assert before["region_local_state"]["region"]["peers"]
    text = ctl.text("raft", "region", "-r", region_id)
    assert f"region {region_id}: Normal" in text
    last = before["raft_local_state"]["last_index"]
    by_index = ctl.text("raft", "log", "-r", region_id, "-i", str(last))
    key = by_index.splitlines()[0].removeprefix("key: ")
    assert ctl.text("raft", "log", "-k", key) == by_index

    (versions,) = ctl.values("mvcc", "-k", apple)
    assert [write["short_value"] for write in versions["writes"]] == ["green", "red"]
    shown = ctl.text("scan", "--from", "z", "--limit", "10", "--show-cf", "default")
    assert "default cf value" in shown
    assert "blue" * 100 in shown
    assert "write cf" not in shown
    newest = versions["writes"][0]
    (only,) = ctl.values("scan", "--from", "z", "--to", "{", "--commit-ts", str(newest["commit_ts"]))
    assert only["writes"] == [newest]

    (sizes,) = ctl.values("size", "-r", region_id, "-c", "default,write")
    assert sizes[0]["sizes"]["default"] > 400
    assert "compacted kv, family write" in ctl.text("compact", "-d", "kv", "-c", "write")
    assert "has begun" in ctl.text("consistency-check", "-r", region_id)

    (parts,) = ctl.values("split-region", "-r", region_id, "-k", "m")
    assert [part["region_id"] for part in parts][1] == before["region_id"]
    assert parts[0]["end_key"] == parts[1]["start_key"] == escape(data_key(b"m")[1:])

    ctl.text("fail", "inject", "kv_commit=return(not now)", "raw_write=off")
    assert ctl.values("fail", "list") == [{"kv_commit": "return(not now)", "raw_write": "off"}]
    ctl.text("fail", "recover")
    assert ctl.text("fail", "list").strip() == "no failpoint is armed"
    assert "near: kv_commit" in ctl.refusal("fail", "inject", "kv_comit=off")

    assert "tikv_raftstore_region_count" in ctl.text("metrics")
    assert ctl.text("store").startswith("store id: ")
    assert ctl.text("cluster").startswith("cluster id: ")
    assert "NOT_FOUND" in ctl.refusal("raft", "region", "-r", "999")
    assert "needs a stopped store" in ctl.refusal("bad-regions")
    assert "needs a stopped store" in ctl.refusal("unsafe-recover", "remove-fail-stores", "-s", "9", "--all-regions")


def check_stopped_store(ctl: Ctl, apple: str) -> None:
    (regions,) = ctl.values("raft", "region", "--all-regions")
    assert len(regions) == 2
    (versions,) = ctl.values("mvcc", "-k", apple)
    assert [write["short_value"] for write in versions["writes"]] == ["green", "red"]
    (pairs,) = ctl.values("raw-scan", "--from", "z", "--to", "{", "--cf", "default")
    assert len(pairs) == 1
    (printed,) = ctl.values("print", "-k", pairs[0]["key"])
    assert printed["value"] == "blue" * 100
    assert ctl.text("bad-regions").strip() == "all regions are healthy"
    assert "needs a running store" in ctl.refusal("consistency-check", "-r", "2")
    assert "needs a running store" in ctl.refusal("fail", "list")

    region_id = str(regions[0]["region_id"])
    own = regions[0]["region_local_state"]["region"]["peers"][0]["store_id"]
    unsafe = ("unsafe-recover", "remove-fail-stores")
    assert "itself" in ctl.refusal(*unsafe, "-s", str(own), "--all-regions")
    (kept,) = ctl.values(*unsafe, "-s", "77,78", "--all-regions")
    assert [one["changed"] for one in kept] == [False, False]
    assert "not every region" in ctl.refusal(*unsafe, "-s", "77", "-r", region_id)


def test_a_lost_majority_is_given_up_on_disk(tmp_path: Path) -> None:
    with pg.playground("--db", "0", "--kv", "1", "--data-dir", str(tmp_path)):
        pass
    path = tmp_path / "tikv-0" / "data"
    ctl = Ctl("--data-dir", str(path))
    ((region,),) = ctl.values("raft", "region", "--all-regions")
    with_failed_peers(path, region["region_id"])
    ((done,),) = ctl.values("unsafe-recover", "remove-fail-stores", "-s", "98,99", "-r", str(region["region_id"]))
    assert done["changed"]
    ((after,),) = ctl.values("raft", "region", "--all-regions")
    assert after == region


def with_failed_peers(path: Path, region_id: int) -> None:
    """The region as if two of its three replicas were on stores that are gone."""
    engine = RocksEngine(str(path / "db"))
    key = keys.region_state_key(region_id)
    state = serverpb.RegionLocalState.FromString(engine.get(CF_RAFT, key) or b"")
    state.region.peers.add(id=9801, store_id=98)
    state.region.peers.add(id=9901, store_id=99)
    batch = engine.batch()
    batch.put(CF_RAFT, key, state.SerializeToString())
    engine.write(batch)
    engine.sync_wal()
    engine.close()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("store",), "--host"),
        (("--host", "a:1", "--data-dir", "b", "store"), "name one store"),
        (("--data-dir", "/nowhere", "store"), "no data directory"),
        (("--decode", "\\9"), "escape at position"),
        (("--decode", "zab"), "truncated"),
        (("--to-escaped", "xyz"), "not in hex"),
    ],
)
def test_what_cannot_be_meant_is_one_line_of_error(arguments: tuple[str, ...], says: str) -> None:
    assert says in Ctl().refusal(*arguments)


def test_keys_are_converted_both_ways() -> None:
    ctl = Ctl()
    assert ctl.text("--to-hex", "z\\000\\001").strip() == "7A0001"
    assert ctl.text("--to-escaped", "7A0001").strip() == "z\\000\\001"
    encoded = ctl.text("--encode", "apple\\000").strip()
    assert encoded == escape(data_key(b"apple\0"))
    assert ctl.text("--decode", encoded).strip() == "apple\\000"


def start_with_failpoints(text: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FAILPOINTS": text}
    with pg.playground("--db", "0", "--kv", "1") as cluster:
        return subprocess.run(
            [
                *(sys.executable, "-m", "tikv_py.server", "--pd", cluster.pd, "--data-dir", str(tmp_path / "second")),
                *("--addr", "127.0.0.1:0", "--status-addr", ""),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment,
        )


def test_failpoints_of_the_environment_are_armed_at_start(tmp_path: Path) -> None:
    said = start_with_failpoints("pd_store_heartbeat=panic(on purpose)", tmp_path)
    assert said.returncode == 70
    assert "stopping: a broken invariant: failpoint pd_store_heartbeat: on purpose" in said.stderr
    said = start_with_failpoints("pd_store_hartbeat=off", tmp_path)
    assert said.returncode == 1
    assert "near: pd_store_heartbeat" in said.stderr
