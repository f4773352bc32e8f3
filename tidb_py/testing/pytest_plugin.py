"""pytest fixtures with a storage cluster inside the test process; loaded by pytest itself once the package is installed.

    async def test_transfer(tikv_txn_client):
        async with tikv_txn_client.begin() as txn:
            txn.put(b"k", b"v")

    @pytest.mark.tikv(stores=3)
    async def test_survives_a_store(tikv_cluster, tikv_raw_client): ...

| Fixture | What it is |
|---|---|
| `tikv_cluster` | an `EmbeddedCluster` of this test's own, stopped after it |
| `tikv_raw_client`, `tikv_txn_client` | clients of it |
| `tikv_cluster_session` | one cluster for all tests that ask, on the session's event loop; tests need `loop_scope="session"` too |

The marker `tikv` takes `stores` (default 1), `seed`, `split_at` (user keys) and `settings` (`TikvConfig`); the session's
cluster has 3 stores. The fixtures are asynchronous: pytest-asyncio runs them. Importing this module loads no server code:
every pytest run of the environment does that, whether it needs a cluster or not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest

try:
    from pytest_asyncio import fixture as async_fixture
except ImportError:  # the fixtures then say what is missing
    async_fixture: Callable[..., Any] = pytest.fixture  # type: ignore[no-redef]

if TYPE_CHECKING:
    from tidb_py.testing.embedded import EmbeddedCluster
    from tikv_py.client.raw.client import RawClient
    from tikv_py.client.txn.client import TxnClient

SESSION_STORES = 3
_MARKER = "tikv(stores=1, seed=0, split_at=(), settings=None): the cluster of the tikv_* fixtures"
_OPTIONS = frozenset({"stores", "seed", "split_at", "settings"})


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


def _check_can_await(config: pytest.Config) -> None:
    if not config.pluginmanager.hasplugin("asyncio"):
        raise pytest.UsageError("the tikv_* fixtures need pytest-asyncio: pip install pytest-asyncio")


@pytest.fixture
def tikv_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the test's `tikv` marker says; override it to give many tests the same options."""
    _check_can_await(request.config)
    marker = request.node.get_closest_marker("tikv")
    options = dict(marker.kwargs) if marker is not None else {}
    if marker is not None and (marker.args or not options.keys() <= _OPTIONS):
        raise pytest.UsageError(f"the tikv marker takes {', '.join(sorted(_OPTIONS))} by name")
    return options


@pytest.fixture(scope="session")
def tikv_session_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of `tikv_cluster_session`; override it to change them."""
    _check_can_await(request.config)
    return {"stores": SESSION_STORES}


async def _running(options: dict[str, Any]) -> AsyncIterator[EmbeddedCluster]:
    from tidb_py.testing.embedded import embedded_cluster  # noqa: PLC0415 servers load only when a test wants them

    split_at = options.get("split_at", ())
    chosen = {"stores": 1, **{name: value for name, value in options.items() if name != "split_at"}}
    async with embedded_cluster(**chosen) as cluster:
        if split_at:
            await cluster.split(*split_at)
        yield cluster


@async_fixture
async def tikv_cluster(tikv_options: dict[str, Any]) -> AsyncIterator[EmbeddedCluster]:
    """A cluster of the test's own."""
    async for cluster in _running(tikv_options):
        yield cluster


@async_fixture(scope="session", loop_scope="session")
async def tikv_cluster_session(tikv_session_options: dict[str, Any]) -> AsyncIterator[EmbeddedCluster]:
    """One cluster for the whole session."""
    async for cluster in _running(tikv_session_options):
        yield cluster


@async_fixture
async def tikv_raw_client(tikv_cluster: EmbeddedCluster) -> RawClient:
    """A raw client of `tikv_cluster`, which closes it."""
    return await tikv_cluster.raw_client()


@async_fixture
async def tikv_txn_client(tikv_cluster: EmbeddedCluster) -> TxnClient:
    """A transactional client of `tikv_cluster`, which closes it."""
    return await tikv_cluster.txn_client()
