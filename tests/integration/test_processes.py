"""What only real processes show: the playground, its refusals, and data after kill -9 of everything at once."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from tidb_py.testing import playground as pg
from tikv_py.client.connect import connect_raw, connect_txn

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("processes")]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_help_lists_the_flags_of_tiup() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "tidb_py.server", "playground", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "160"},
    ).stdout
    for flag in (
        *("--db", "--kv", "--pd", "--host", "--port-offset", "--data-dir", "--tag"),
        *("--db.config", "--kv.config", "--pd.config", "--without-monitor", "--json"),
    ):
        assert flag in said


def test_a_busy_port_is_refused_with_one_line_and_nothing_stays() -> None:
    with ExitStack() as stack:
        port = 0
        while not 20161 <= port <= 60161:  # what an offset can make of the second store's port
            taken = stack.enter_context(socket.socket())
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
        offset = port - 20161
        result = subprocess.run(
            [sys.executable, "-m", "tidb_py.server", "playground", "--db", "0", "--port-offset", str(offset)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert f"port {port}" in result.stderr


def test_ready_block_and_clean_stop() -> None:
    cluster = pg.start("--db", "0", "--kv", "3")
    pids = [pid for group in cluster.pids.values() for pid in group]
    try:
        assert len(cluster.pids["kv"]) == 3
        for name, url in cluster.status.items():
            page = urllib.request.urlopen(url, timeout=10).read().decode()
            assert "# HELP" in page, name
        assert Path(cluster.data_dir).is_dir()
    finally:
        pg.stop(cluster)
    assert cluster.process.returncode == 0
    assert not any(alive(pid) for pid in pids)
    assert not Path(cluster.data_dir).exists(), "temporary data goes with the playground"


async def test_everything_killed_at_once_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    expected = {b"key%03d" % i: b"value %d" % i for i in range(200)}
    with pg.playground("--db", "0", "--data-dir", str(tmp_path / "data")) as cluster:
        async with await connect_txn([cluster.pd]) as client, client.begin() as txn:
            for key, value in expected.items():
                txn.put(key, value)
        for role in ("kv", "pd"):
            for number in range(len(cluster.pids[role])):
                cluster.kill(role, number)
    with pg.playground("--db", "0", "--data-dir", str(tmp_path / "data")) as cluster:
        async with await connect_txn([cluster.pd]) as client:
            found = {k: v async for k, v in client.snapshot(await client.timestamp()).scan(b"", b"")}
    assert found == expected


async def test_a_killed_playground_takes_its_processes_along(tmp_path: Path) -> None:
    cluster = pg.start("--db", "0", "--kv", "1", "--data-dir", str(tmp_path))
    async with await connect_raw([cluster.pd]) as client:
        await client.put(b"k", b"v")
        assert await client.get(b"k") == b"v"
    cluster.process.send_signal(signal.SIGKILL)
    cluster.process.communicate()
    pids = [pid for group in cluster.pids.values() for pid in group]
    for pid in pids:
        wait_gone(pid)


def wait_gone(pid: int) -> None:
    """Wait until a process that is not ours to reap is gone or a zombie."""
    descriptor = os.pidfd_open(pid) if alive(pid) else -1
    if descriptor >= 0:
        assert select.select([descriptor], [], [], 20)[0], f"process {pid} is still there"
        os.close(descriptor)


def test_store_with_another_clusters_data_is_refused(tmp_path: Path) -> None:
    with pg.playground("--db", "0", "--kv", "1", "--data-dir", str(tmp_path / "one")):
        pass
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "tikv-0").rename(tmp_path / "two" / "tikv-0")
    with pytest.raises(pg.PlaygroundFailed, match="belongs to cluster"):
        pg.start("--db", "0", "--kv", "1", "--data-dir", str(tmp_path / "two"))


def test_a_damaged_log_is_refused_with_one_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    cluster = pg.start("--db", "0", "--kv", "1", "--data-dir", str(data))
    raft = data / "tikv-0" / "data" / "raft"
    for _ in range(400):  # until the first leader's entry is there
        if any(path.stat().st_size > 64 for path in raft.glob("*.log")):
            break
        threading.Event().wait(0.05)
    cluster.kill("kv")  # nothing is flushed: what was written is in the logs
    cluster.process.send_signal(signal.SIGKILL)
    cluster.process.communicate()
    for group in cluster.pids.values():
        for pid in group:
            wait_gone(pid)
    log = max(raft.glob("*.log"), key=lambda path: path.stat().st_size)
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 0xFF
    log.write_bytes(content)
    with pytest.raises(pg.PlaygroundFailed, match="replace this store"):
        pg.start("--db", "0", "--kv", "1", "--data-dir", str(data))


@pytest.mark.parametrize("module", ["pd_py.server", "tikv_py.server"])
def test_unknown_keys_name_the_nearest_known_one(module: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[log]\nlevle = "info"\n')
    result = subprocess.run(
        [sys.executable, "-m", module, "--config", str(path), "--check-config"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "log.levle" in result.stderr
    assert "log.level" in result.stderr
    path.write_text('[log]\nlevel = "info"\n')
    subprocess.run(
        [sys.executable, "-m", module, "--config", str(path), "--check-config"], capture_output=True, check=True
    )
    version = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True)
    assert "8.5.0" in version.stdout


def pss_bytes(pid: int) -> int:
    """Proportional set size: memory shared by several processes counts once among them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no Pss for process {pid}")


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="this system does not tell the proportional set size"
)
def test_an_idle_playground_is_small() -> None:
    with pg.playground() as cluster:
        total = sum(pss_bytes(pid) for group in cluster.pids.values() for pid in group)
    assert total <= 400 << 20, f"{total >> 20} MB for five idle processes"
