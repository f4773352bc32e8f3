"""What all tests share: a broken invariant fails the test instead of ending the test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from core_py.runtime import tasks

settings.register_profile("tests", deadline=None, print_blob=True)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def broken_invariants(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """Broken invariants that background tasks met; a test that expects one empties the list."""
    met: list[BaseException] = []
    monkeypatch.setattr(tasks, "stop_process", met.append)
    yield met
    assert not met, f"broken invariants: {met}"
