"""One playground for all tests with the PyPI wheel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tidb_py.testing.playground import PlaygroundCluster, playground


@pytest.fixture(scope="session")
def cluster() -> Iterator[PlaygroundCluster]:
    """A cluster without SQL."""
    with playground("--db", "0") as running:
        yield running
