"""The client and its memory cluster work where nothing of the servers is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
MISSING = ("rocksdict", "pyarrow", "numpy", "sqlglot", "aiohttp", "async_solipsism", "uvloop", "pytest")

USERS_PROGRAM = f"""
import asyncio, importlib.abc, sys


class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {MISSING!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Absent())

import tikv_py.client.connect
from tikv_py.client.testing.cluster import memory_cluster


async def main():
    async with memory_cluster(split_at=[b"m"]) as cluster:
        client, raw = await cluster.txn_client(), await cluster.raw_client()
        async with client.begin(pessimistic=True) as txn:
            await txn.lock_keys([b"a", b"z"])
            txn.put(b"a", b"1")
            txn.put(b"z", b"2")
        snapshot = client.snapshot(await client.timestamp())
        assert [key async for key, _ in snapshot.scan(b"")] == [b"a", b"z"]
        await raw.put(b"k", b"v", ttl_s=10)
        assert await raw.get(b"k") == b"v"


asyncio.run(main())
servers = [name for name in sys.modules if name.startswith(("pd_py", "tidb_py", "tikv_py"))]
print(*(name for name in servers if name != "tikv_py" and not name.startswith("tikv_py.client")))
print("done")
"""


def test_the_client_needs_no_server() -> None:
    done = subprocess.run([sys.executable, "-c", USERS_PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["", "done"], "server modules were loaded"
