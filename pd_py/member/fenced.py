"""The metadata store as one term of leadership may use it.

What a leader began in one term must not go on in a later one, even if the same member leads again: another may have led in
between, and what was read before is old. So everything that a leader does goes through a store that is bound to its term.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pd_py.metastore.errors import NotLeader
from pd_py.metastore.kv.state import KvState
from pd_py.metastore.replicated import ReplicatedStore
from protos.private import metastore_pb2


class FencedStore:
    """Reading and writing within one term. See `pd_py.metastore.port.MetaStore` for the methods."""

    def __init__(self, store: ReplicatedStore) -> None:
        self._store = store
        self.term = store.term

    @property
    def is_valid(self) -> bool:
        """Whether the term's leader still leads, and its lease holds now."""
        return self._store.term == self.term and self._store.is_leader

    def check(self) -> None:
        """Raise NotLeader unless the term's leadership holds now."""
        if not self.is_valid:
            raise NotLeader("not leader")

    @property
    def kv(self) -> KvState:
        """The leader's copy: it holds every acknowledged change."""
        return self._store.kv

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after each batch of changes; returns how to end it."""
        return self._store.subscribe(listener)

    async def execute(self, command: metastore_pb2.Command) -> metastore_pb2.Result:
        """Make a change in this term, or none. Raises NotLeader, ProposalLost, OutcomeUnknown."""
        if self._store.term != self.term:
            raise NotLeader("not leader")
        return await self._store.execute_here(command)

    def get(self, key: str) -> bytes | None:
        """The value of a key, or None."""
        return self._store.get(key)

    def prefix(self, prefix: str) -> list[tuple[str, bytes]]:
        """All pairs with the prefix, in key order."""
        return self._store.prefix(prefix)

    async def write(self, changes: Mapping[str, bytes | None]) -> int:
        """Set or remove keys, if this term's leader still leads. Raises NotLeader, ProposalLost, OutcomeUnknown."""
        if self._store.term != self.term:
            raise NotLeader("not leader")
        return await self._store.write(changes)
