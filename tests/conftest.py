"""What all tests share: a broken invariant fails the test instead of ending the test process.

And how they are spread over workers: the tests of a file that starts processes stay together, so that what it starts is
started once. (`--dist loadgroup` cannot do it: pytest 9 computes node ids, and the group that xdist notes in them is lost.)
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from core_py.runtime import tasks

settings.register_profile("tests", deadline=None, print_blob=True)
settings.load_profile("tests")


class ProcessFilesTogether(LoadScopeScheduling):  # type: ignore[misc]
    """One scope for each file that starts processes, one for each other test."""

    def _split_scope(self, nodeid: str) -> str:
        name = nodeid.split("::", 1)[0]
        return name if _starts_processes(self.config.rootpath / name) else nodeid


@cache
def _starts_processes(file: Path) -> bool:
    return file.is_file() and "pytest.mark.process" in file.read_text(encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ProcessFilesTogether | None:
    """For `--dist loadgroup`."""
    return ProcessFilesTogether(config, log) if config.getoption("dist") == "loadgroup" else None


@pytest.fixture(autouse=True)
def broken_invariants(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """Broken invariants that background tasks met; a test that expects one empties the list."""
    met: list[BaseException] = []
    monkeypatch.setattr(tasks, "stop_process", met.append)
    yield met
    assert not met, f"broken invariants: {met}"
