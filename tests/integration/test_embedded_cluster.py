"""The cluster inside a test process, as our users get it: by context manager and by pytest fixture, on real time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tidb_py.testing.embedded import EmbeddedCluster, embedded_cluster

ROOT = Path(__file__).parents[2]
PLUGIN = "tidb_py.testing.pytest_plugin"

USERS_TESTS = """
import pytest


async def test_transactions(tikv_txn_client):
    async with tikv_txn_client.begin() as txn:
        txn.put(b"k", b"v")
    async with tikv_txn_client.begin() as txn:
        assert await txn.get(b"k") == b"v"


async def test_each_test_has_its_own_cluster(tikv_txn_client):
    async with tikv_txn_client.begin() as txn:
        assert await txn.get(b"k") is None


@pytest.mark.tikv(stores=3, split_at=[b"m"])
async def test_options(tikv_cluster, tikv_raw_client):
    assert len(tikv_cluster.stores) == 3
    await tikv_raw_client.put(b"a", b"1")
    await tikv_cluster.stop_store(tikv_cluster.stores[0])
    assert await tikv_raw_client.get(b"a") == b"1"
    regions = await tikv_raw_client.pd.scan_regions(b"", b"")
    assert [len(region.region.peers) for region in regions] == [3, 3]


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("number", [1, 2])
async def test_shared(tikv_cluster_session, number):
    client = await tikv_cluster_session.raw_client()
    await client.put(b"%d" % number, b"x")
    assert len(await client.scan(b"")) == number


@pytest.mark.tikv(3)
async def test_wrong_marker(tikv_cluster):
    pass
"""


def run_pytest(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "-q", *arguments]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120)


def test_fixtures(tmp_path: Path) -> None:
    (tmp_path / "test_users.py").write_text(USERS_TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\naddopts = --strict-markers\n")
    done = run_pytest(tmp_path)
    assert "5 passed, 1 error" in done.stdout, done.stdout
    assert "the tikv marker takes seed, settings, split_at, stores by name" in done.stdout


def test_without_pytest_asyncio_the_fixtures_say_so(tmp_path: Path) -> None:
    (tmp_path / "test_users.py").write_text("def test_it(tikv_cluster):\n    pass\n")
    done = run_pytest(tmp_path, "-p", "no:asyncio")
    assert done.returncode
    assert "need pytest-asyncio" in done.stdout


def test_the_plugin_loads_no_server() -> None:
    heavy = ("grpc", "rocksdict", "pyarrow", "numpy", "tikv_py.server", "pd_py", "core_py")
    code = f"import sys, {PLUGIN}; sys.exit(', '.join(name for name in {heavy!r} if name in sys.modules) or None)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


async def test_a_store_comes_back_with_its_data() -> None:
    async with embedded_cluster(stores=1) as cluster:
        client = await cluster.raw_client()
        await client.put(b"k", b"v")
        await cluster.stop_store(cluster.stores[0])
        await cluster.start_store(cluster.stores[0])
        assert await client.get(b"k") == b"v"


async def test_every_region_is_replicated_from_the_start() -> None:
    async with embedded_cluster(stores=4) as cluster:
        await cluster.split(b"m")
        await cluster.wait_replicated()
        client = await cluster.txn_client()
        async with client.begin() as txn:
            txn.put(b"a", b"1")
            txn.put(b"z", b"2")
        regions = await client.pd.scan_regions(b"", b"")
        assert [len(region.region.peers) for region in regions] == [3, 3]


async def test_misuse() -> None:
    with pytest.raises(ValueError, match="at least one store"):
        EmbeddedCluster(0)
    with pytest.raises(RuntimeError, match="not running"):
        _ = EmbeddedCluster(1).pd
