"""One turn of the store loop: what all active peers want written, and who is answered when it is.

Why one value: a turn's changes go into one raft batch and one kv batch, written at its end; what concerns two peers (a split, a
merge) is then atomic without further ado. Only a consistency check has them written earlier, between two entries.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from core_py.raft.messages import Message
from tikv_py.engine.port import WriteBatch
from tikv_py.raftstore.apply import Applied
from tikv_py.raftstore.peer import Peer

Answers = list[tuple[asyncio.Future[Applied], Applied]]


@dataclass(slots=True)
class Unsynced:
    """A Ready whose entries are written but not yet durable."""

    peer: Peer
    number: int
    messages: tuple[Message, ...]


@dataclass(slots=True)
class Turn:
    """See the module's text."""

    raft_batch: WriteBatch
    kv_batch: WriteBatch
    unsynced: list[Unsynced] = field(default_factory=list)
    answers: list[tuple[Peer, Answers]] = field(default_factory=list)
    must_sync: bool = False
    closed: list[Peer] = field(default_factory=list)
    """Peers whose region was closed for a merge; the next step follows when that is written."""
