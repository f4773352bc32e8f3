"""`Ready`: what a node wants done by its driver, in one value.

Why a value and not calls: the driver batches the Readys of many regions into one disk write and one network flush.
The driver's order, for Readys in the order of `number`:

1. send `messages` at any time, also before any write: nothing in them promises durability (a leader writes its own disk
   in parallel with its followers', thesis 10.2.1);
2. write `snapshot`, then `entries` (cutting the stored log from `entries[0].index` on), and `hard_state`, in one atomic
   batch; sync it if `must_sync`;
3. when that batch *and the batches of all Readys before it* are durable: call `RawNode.on_persist(number)` and send
   `persisted_messages` (votes and append answers promise what was written);
4. apply `committed_entries` in order; for a conf change entry call `RawNode.apply_conf_change`; then call
   `RawNode.advance_apply_to(last index applied)`. After a snapshot: `advance_apply_to(snapshot.meta.index)`, once
   it is durable; all entries handed out before the snapshot must have been applied or dropped by then.
5. answer `read_states` when the state machine has applied up to their index.

Invariants: `number` grows by one; each entry to persist is handed out once per version; `committed_entries` are
contiguous from Ready to Ready, and durable here before they are handed out.

What it does not do: hold anything back for the driver; a Ready that is dropped is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

from core_py.raft.messages import Entry, HardState, Message, Snapshot, StateRole


@dataclass(frozen=True, slots=True)
class SoftState:
    """State worth telling but not storing."""

    role: StateRole
    leader_id: int


@dataclass(frozen=True, slots=True)
class ReadState:
    """A confirmed read: the state machine at `index` or later answers the request known by `context`."""

    index: int
    context: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """One batch of work for the driver; the module docstring gives the order. Absent parts are None or empty."""

    number: int
    soft_state: SoftState | None = None
    hard_state: HardState | None = None
    entries: tuple[Entry, ...] = ()
    snapshot: Snapshot | None = None
    committed_entries: tuple[Entry, ...] = ()
    messages: tuple[Message, ...] = ()
    persisted_messages: tuple[Message, ...] = ()
    read_states: tuple[ReadState, ...] = ()
    must_sync: bool = False
