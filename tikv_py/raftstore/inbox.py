"""Raft messages that wait for the next turn of the store loop, within a limit on their number and bytes.

At the limit the newest ordinary message is dropped: Raft sends it again, and what came first is what the peers need next.
Never dropped is what is not sent again soon or what the store has prepared for: snapshots (their data is staged already),
deaths, and the store's own extra messages. There are few of them, and snapshots have a limit of their own.
"""

from __future__ import annotations

from protos.kvproto import eraftpb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb


class Inbox:
    """See the module's text."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages: list[serverpb.RaftMessage] = []
        self._bytes = 0

    def add(self, message: serverpb.RaftMessage) -> bool:
        """Take a message in; whether there was room for it."""
        size = message.ByteSize()
        full = len(self._messages) >= self._max_messages or self._bytes + size > self._max_bytes
        if full and self._messages and _is_ordinary(message):
            return False
        self._messages.append(message)
        self._bytes += size
        return True

    def take(self) -> list[serverpb.RaftMessage]:
        """Everything that waits, in the order it came."""
        taken, self._messages, self._bytes = self._messages, [], 0
        return taken

    def __len__(self) -> int:
        return len(self._messages)


def _is_ordinary(message: serverpb.RaftMessage) -> bool:
    if message.is_tombstone or message.HasField("extra_msg"):
        return False
    return message.message.msg_type != eraftpb_pb2.MsgSnapshot
