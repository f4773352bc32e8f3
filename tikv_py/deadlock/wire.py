"""Waits and deadlocks as `deadlock.proto` and `kvrpcpb` tell them."""

from __future__ import annotations

from protos.kvproto import deadlock_pb2, kvrpcpb_pb2
from tikv_py.deadlock.wait_for_graph import Cycle, Wait


def entry_of(wait: Wait, *, wait_time_ms: int = 0) -> deadlock_pb2.WaitForEntry:
    """A wait on the wire."""
    return deadlock_pb2.WaitForEntry(
        txn=wait.txn,
        wait_for_txn=wait.wait_for_txn,
        key_hash=wait.key_hash,
        key=wait.key,
        resource_group_tag=wait.resource_group_tag,
        wait_time=wait_time_ms,
    )


def wait_of(entry: deadlock_pb2.WaitForEntry) -> Wait:
    """A wait from the wire."""
    return Wait(entry.txn, entry.wait_for_txn, entry.key_hash, entry.key, entry.resource_group_tag)


def response_of(cycle: Cycle) -> deadlock_pb2.DeadlockResponse:
    """What the detector's leader tells the store on which the refused wait is."""
    return deadlock_pb2.DeadlockResponse(
        entry=entry_of(cycle.closing),
        deadlock_key_hash=cycle.closed_by.key_hash,
        deadlock_key=cycle.closed_by.key,
        wait_chain=[entry_of(wait) for wait in cycle.chain],
    )


def cycle_of(response: deadlock_pb2.DeadlockResponse) -> Cycle:
    """The deadlock that the leader found. An old leader tells no chain; then it is made of what else it names."""
    closing = wait_of(response.entry)
    path = tuple(wait_of(entry) for entry in response.wait_chain if entry.txn != closing.txn)
    if not path:
        path = (Wait(closing.wait_for_txn, closing.txn, response.deadlock_key_hash, response.deadlock_key),)
    return Cycle(closing, path)


def deadlock_of(cycle: Cycle) -> kvrpcpb_pb2.Deadlock:
    """What the client of the refused transaction is told."""
    return kvrpcpb_pb2.Deadlock(
        lock_ts=cycle.closing.wait_for_txn,
        lock_key=cycle.closing.key,
        deadlock_key_hash=cycle.closed_by.key_hash,
        deadlock_key=cycle.closed_by.key,
        wait_chain=[entry_of(wait) for wait in cycle.chain],
    )
