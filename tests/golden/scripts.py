"""Comparing a golden script with what happens now, or with REWRITE=1 writing what happens now."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def check_script(path: Path, run: Callable[[str], str]) -> None:
    """Fail when the outputs differ; rewriting is refused in CI."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# "), "a script opens with its reason"
    actual = run(text)
    if os.environ.get("REWRITE") == "1":
        assert "CI" not in os.environ, "scripts are rewritten by people who look at the difference"
        path.write_text(actual, encoding="utf-8")
        return
    assert actual == text
