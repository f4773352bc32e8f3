"""What the log of PD's members builds up: the key-value state and the table of members. Deterministic, no I/O.

Invariant: two members that applied the same entries hold equal images. A command that is refused is refused everywhere; its
result says so and the state is as before.
"""

from __future__ import annotations

from core_py.codec import eraft
from core_py.raft.errors import ConfChangeRefused
from core_py.raft.messages import ConfChange, ConfState, Entry, EntryType
from core_py.raft.node import RawNode
from pd_py.metastore.kv.state import KvState
from pd_py.metastore.members import MemberTable, from_pb, to_pb
from protos.private import metaraft_pb2, metastore_pb2

REFUSED = "PD:Member:Refused"


class StateMachine:
    """State of one member. `apply` in log order."""

    def __init__(self) -> None:
        self.kv = KvState()
        self.members = MemberTable()

    def image(self) -> bytes:
        """Everything, for a snapshot."""
        return metaraft_pb2.StateImage(
            kv=self.kv.image(), members=[to_pb(member) for member in self.members.all()]
        ).SerializeToString()

    def restore(self, image: bytes) -> None:
        """Become what `image` says."""
        state = metaraft_pb2.StateImage.FromString(image)
        self.kv.restore(state.kv)
        self.members.load(from_pb(member) for member in state.members)

    def apply(self, entry: Entry, node: RawNode) -> metastore_pb2.Result | None:
        """Apply one committed entry; its result, None for entries that the core made itself."""
        if entry.entry_type is not EntryType.NORMAL:
            return self._apply_conf_change(entry, node)
        if not entry.data:
            return None
        proposal = metaraft_pb2.Proposal.FromString(entry.data)
        if proposal.HasField("member_change"):
            self.members.apply(proposal.member_change)
            return metastore_pb2.Result(revision=self.kv.revision)
        return self.kv.apply(proposal.command)

    def _apply_conf_change(self, entry: Entry, node: RawNode) -> metastore_pb2.Result | None:
        if not entry.data:
            node.apply_conf_change(ConfChange())
            return None
        change, context = eraft.conf_change_from_bytes(entry.data)
        try:
            node.apply_conf_change(change)
        except ConfChangeRefused as error:
            return metastore_pb2.Result(error_code=REFUSED, error=error.message)
        self.members.apply(metaraft_pb2.Proposal.FromString(context).member_change)
        return metastore_pb2.Result(revision=self.kv.revision)


def first_state(machine: StateMachine) -> ConfState:
    """The configuration that the first members of a group begin with."""
    members = machine.members.all()
    return ConfState(
        tuple(member.id for member in members if not member.is_learner),
        tuple(member.id for member in members if member.is_learner),
    )
