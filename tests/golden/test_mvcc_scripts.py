"""Runs every script of tests/golden/mvcc; REWRITE=1 writes what happens now, and is refused in CI."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.golden.mvcc_runner import run_script

SCRIPTS = sorted((Path(__file__).parent / "mvcc").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# "), "a script opens with its reason"
    actual = run_script(text)
    if os.environ.get("REWRITE") == "1":
        assert "CI" not in os.environ, "scripts are rewritten by people who look at the difference"
        path.write_text(actual)
        return
    assert actual == text


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 8
