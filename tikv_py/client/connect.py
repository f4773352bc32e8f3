"""Clients over the real transport and clock in one call. Everything else of the client takes these as ports."""

from __future__ import annotations

from collections.abc import Sequence

from core_py.runtime.clock import SystemClock
from core_py.runtime.grpc_transport import GrpcTransport
from tikv_py.client.raw.client import RawClient
from tikv_py.client.txn.client import DEFAULTS, TxnClient
from tikv_py.client.txn.transaction import TxnOptions

Tls = tuple[bytes, bytes, bytes]


async def connect_txn(
    pd_endpoints: Sequence[str], *, tls: Tls | None = None, defaults: TxnOptions = DEFAULTS, local_latches: int = 0
) -> TxnClient:
    """A transactional client. Raises PdUnavailable.

    `defaults` is how its transactions begin; `local_latches` (0 = none) makes optimistic transactions of this client that write
    the same keys commit one after the other (`tikv_py.client.txn.latches`), with so many slots.
    """
    return await TxnClient.connect(
        pd_endpoints, transport=GrpcTransport(tls), clock=SystemClock(), defaults=defaults, local_latches=local_latches
    )


async def connect_raw(
    pd_endpoints: Sequence[str], *, tls: Tls | None = None, cf: str = "", atomic: bool = False
) -> RawClient:
    """A raw client; `atomic` when it mixes compare-and-swaps with other writes of the same keys. Raises PdUnavailable."""
    return await RawClient.connect(
        pd_endpoints, transport=GrpcTransport(tls), clock=SystemClock(), cf=cf, atomic=atomic
    )
