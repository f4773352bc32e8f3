"""The client's examples run as their users run them, and the code in the client's README does what it says."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from tidb_py.testing.playground import PlaygroundCluster, playground

ROOT = Path(__file__).parents[2]
README = ROOT / "tikv_py/client/README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
EXAMPLES = {
    "raw": ["a = b'1'", "all in all: 1001", "left: []"],
    "transactions": ["own writes are seen: b'1'", "an exception rolls back", "begin again", "now: b'11'"],
    "counter": ["counted: 80 of 80"],
    "transfers": ["sum: 500 of 500"],
    "scans": ["keys only: 1000", "pages of 300: 4", "own writes included: 1000", "as it was: 1000"],
    "script": ["counted: b'20'", "scanned: [(b'script-example', b'20')]"],
    "unit_test": ["both tests pass"],
}

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("processes")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[PlaygroundCluster]:
    with playground("--db", "0") as running:
        yield running


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


def test_every_example_is_listed() -> None:
    files = {path.stem for path in (ROOT / "examples/client").glob("*.py")} - {"__init__", "arguments"}
    assert files == set(EXAMPLES)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_example(cluster: PlaygroundCluster, name: str) -> None:
    arguments = () if name == "unit_test" else ("--pd", cluster.pd)
    done = run("-m", f"examples.client.{name}", *arguments)
    assert done.returncode == 0, done.stderr
    for expected in EXAMPLES[name]:
        assert expected in done.stdout


def is_a_test(block: str) -> bool:
    return "def test_" in block


def is_a_script(block: str) -> bool:
    """Without an event loop, in a process of its own."""
    return "tikv_py.client.sync" in block


def test_scripts_of_the_readme(cluster: PlaygroundCluster) -> None:
    (script,) = (block for block in BLOCKS if is_a_script(block))
    done = run("-c", script.replace("127.0.0.1:2379", cluster.pd))
    assert done.returncode == 0, done.stderr


async def test_code_of_the_readme(cluster: PlaygroundCluster) -> None:
    """All blocks that are not tests, one after the other in one namespace, at a real cluster."""
    names: dict[str, Any] = {}
    for number, block in enumerate(block for block in BLOCKS if not is_a_test(block) and not is_a_script(block)):
        text = block.replace("127.0.0.1:2379", cluster.pd)
        code = compile(text, f"README block {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        await evaluated(code, names)


async def evaluated(code: CodeType, names: dict[str, Any]) -> None:
    result = eval(code, names)
    if inspect.isawaitable(result):
        await result


def test_tests_of_the_readme(tmp_path: Path) -> None:
    blocks = [block for block in BLOCKS if is_a_test(block)]
    assert len(blocks) >= 2
    for number, block in enumerate(blocks):
        (tmp_path / f"test_readme_{number}.py").write_text(block)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    done = run("-m", "pytest", "-q", "-p", "tidb_py.testing.pytest_plugin", "-p", "no:cacheprovider", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
