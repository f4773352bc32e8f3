"""The replicated-store port: what PD must not forget goes through it, and is durable on a majority when the call returns.

Keys of PD itself are texts in the public layout (`/pd/<cluster id>/...`, wire facts 2.3); what clients keep through the etcd
interface lives beside them. A change of several keys is atomic. `get`, `prefix` and `kv` read this member's copy: at the leader it
holds every acknowledged change; anywhere else call `barrier` first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from pd_py.metastore.kv.state import KvState
from protos.private import metastore_pb2


class Metadata(Protocol):
    """What PD itself needs: its keys, within one term of leadership."""

    def get(self, key: str) -> bytes | None:
        """The value of a key, or None."""
        ...

    def prefix(self, prefix: str) -> list[tuple[str, bytes]]:
        """All pairs whose key begins with `prefix`, in key order."""
        ...

    async def write(self, changes: Mapping[str, bytes | None]) -> int:
        """Set (or with None remove) keys, atomically; only at the leader. Returns the revision.

        Raises NotLeader, ProposalLost (nothing changed), OutcomeUnknown (nothing may be assumed).
        """
        ...


class MetaStore(Metadata, Protocol):
    """A small ordered key-value store, the same on every member."""

    @property
    def kv(self) -> KvState:
        """This member's copy, for reads and watches."""
        ...

    @property
    def is_leader(self) -> bool:
        """Whether this member leads now."""
        ...

    @property
    def term(self) -> int:
        """The Raft term, for headers."""
        ...

    @property
    def member_id(self) -> int:
        """This member, for headers."""
        ...

    @property
    def cluster_id(self) -> int:
        """The group of members, for headers."""
        ...

    async def execute(self, command: metastore_pb2.Command) -> metastore_pb2.Result:
        """Have any member's leader make a change, and wait until it is visible here. Errors as of `write`."""
        ...

    async def barrier(self) -> None:
        """Wait until this copy holds every change acknowledged anywhere before the call. Raises NotLeader, OutcomeUnknown."""
        ...

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after each batch of changes that this copy took in; returns how to end it."""
        ...
