"""Which replica of a region a request goes to. Pure: what is known of the stores is given.

Writes and ordinary reads go to the leader. Reads may name a `ReplicaRead` instead: then any replica that is not known to be dead
serves, learners too; it asks its leader how far it must be (replica read) or answers up to its safe timestamp (stale read). The
best by these is taken, in this order: not slow, labels match, the leader if it is preferred, what the mode asks for, not tried
before. Among equals chance decides, which spreads the load.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from core_py.ports import Random
from protos.kvproto import metapb_pb2
from tikv_py.client.region.health import Liveness


class ReplicaMode(enum.Enum):
    """What a read asks for."""

    LEADER = "leader"
    FOLLOWER = "follower"
    MIXED = "mixed"
    CLOSEST = "closest"
    PREFER_LEADER = "prefer leader"
    LEARNER = "learner"


@dataclass(frozen=True, slots=True)
class ReplicaRead:
    """A mode and, for CLOSEST, the labels a near store has: `ReplicaRead.FOLLOWER`, `ReplicaRead.closest({"zone": "z1"})`."""

    mode: ReplicaMode
    labels: tuple[tuple[str, str], ...] = ()

    LEADER: ClassVar[ReplicaRead]
    """The leader."""
    FOLLOWER: ClassVar[ReplicaRead]
    """A replica that does not lead, else the leader."""
    MIXED: ClassVar[ReplicaRead]
    """Any replica."""
    PREFER_LEADER: ClassVar[ReplicaRead]
    """The leader unless its store is slow or dead."""
    LEARNER: ClassVar[ReplicaRead]
    """A learner, else any replica."""

    @classmethod
    def closest(cls, labels: Mapping[str, str]) -> ReplicaRead:
        """A replica on a store with all these labels; the leader among several; any replica when there is none."""
        return cls(ReplicaMode.CLOSEST, tuple(sorted(labels.items())))

    @classmethod
    def of(cls, wanted: bool | ReplicaRead) -> ReplicaRead:
        """True stands for any replica, False for the leader."""
        if isinstance(wanted, ReplicaRead):
            return wanted
        return cls.MIXED if wanted else cls.LEADER


ReplicaRead.LEADER = ReplicaRead(ReplicaMode.LEADER)
ReplicaRead.FOLLOWER = ReplicaRead(ReplicaMode.FOLLOWER)
ReplicaRead.MIXED = ReplicaRead(ReplicaMode.MIXED)
ReplicaRead.PREFER_LEADER = ReplicaRead(ReplicaMode.PREFER_LEADER)
ReplicaRead.LEARNER = ReplicaRead(ReplicaMode.LEARNER)


@dataclass(frozen=True, slots=True)
class Replica:
    """A peer and what is known of its store."""

    peer: metapb_pb2.Peer
    is_leader: bool
    liveness: Liveness = Liveness.REACHABLE
    is_slow: bool = False
    labels: Mapping[str, str] | None = None
    """None = not known yet."""
    is_used_up: bool = False
    """Tried already and not worth another attempt."""
    was_tried: bool = False


def choose_replica(replicas: Sequence[Replica], wanted: ReplicaRead, random: Random) -> metapb_pb2.Peer | None:
    """The best replica, or None when none is left."""
    best: list[metapb_pb2.Peer] = []
    best_score: tuple[bool, ...] = ()
    for replica in replicas:
        if replica.peer.is_witness or replica.is_used_up or replica.liveness is Liveness.UNREACHABLE:
            continue
        if wanted.mode is ReplicaMode.PREFER_LEADER and replica.is_slow and not replica.is_leader:
            continue
        score = _score(replica, wanted)
        if score > best_score:
            best, best_score = [replica.peer], score
        elif score == best_score:
            best.append(replica.peer)
    if len(best) > 1:
        return best[random.randrange(0, len(best))]
    return best[0] if best else None


def _score(replica: Replica, wanted: ReplicaRead) -> tuple[bool, ...]:
    mode, is_leader = wanted.mode, replica.is_leader
    labels = replica.labels or {}
    if mode is ReplicaMode.LEARNER:
        fits = replica.peer.role == metapb_pb2.Learner
    else:
        fits = not is_leader or mode is not ReplicaMode.FOLLOWER
    return (
        not replica.is_slow,
        all(labels.get(key) == value for key, value in wanted.labels),
        is_leader and not replica.is_slow and mode in (ReplicaMode.PREFER_LEADER, ReplicaMode.CLOSEST),
        fits,
        not replica.was_tried,
    )


def next_probe(replicas: Sequence[Replica], leader: metapb_pb2.Peer) -> metapb_pb2.Peer | None:
    """The peer to ask whether it leads, once the known leader is out of the question: the next one behind it that may."""
    peers = [
        replica.peer
        for replica in replicas
        if not replica.is_used_up
        and not replica.peer.is_witness
        and replica.liveness is not Liveness.UNREACHABLE
        and replica.peer.role != metapb_pb2.Learner
    ]
    order = [replica.peer.id for replica in replicas]
    at = order.index(leader.id) if leader.id in order else -1
    return min(peers, key=lambda peer: (order.index(peer.id) - at - 1) % len(order), default=None)
