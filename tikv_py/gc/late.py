"""Transactions that come too late to write.

Up to its GC safe point a store may have removed what decides about an old transaction: that it was rolled back, and commits
it conflicts with. So a lock is not given to it any more, whatever the records say that are left. TiKV relies on its clients here
(TiDB reports the start of its oldest transaction, and PD keeps the safe point before it); a client that reports nothing
would break snapshot isolation silently.

Why the check suffices: it is made on the latched keys, in the step that reads and proposes. A lock that it lets through
was decided on records of which nothing had gone yet, because the safe point is raised before the first removal below it is
proposed, on this store; and on any store that leads the region later, before it applies the removal or takes a snapshot that
lacks the versions. Commits and rollbacks are let through: they decide by the lock.
"""

from __future__ import annotations

from tikv_py.gc.errors import GcTooEarly
from tikv_py.raftstore.store import Store


def check_not_collected(store: Store, start_ts: int) -> None:
    """Raise GcTooEarly for a transaction that did not begin behind the store's safe point."""
    if start_ts <= store.gc_safe_point:
        raise GcTooEarly(start_ts, store.gc_safe_point)
