"""Runs every script of tests/golden/raft; REWRITE=1 writes what the nodes do now, and is refused in CI."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.raft_runner import run_script
from tests.golden.scripts import check_script

SCRIPTS = sorted((Path(__file__).parent / "raft").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    check_script(path, run_script)


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 39
