"""How a member comes into being: one of the first members, one that joins a running cluster, or one that was here before.

    raft.log there                  it was here before: what the log says counts, whatever the flags say
    --join                          a running cluster is asked for an id (etcdserverpb.Cluster/MemberAdd, as a learner)
    --initial-cluster, or neither   a first member: all of them derive the same ids and the same first snapshot

Invariant: nobody votes with a disk that has forgotten votes. A first member whose disk is empty asks the others whether it ran
before; one that did is refused and must be removed and joined anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from core_py.errors import ConfigError, DbError, StorageError
from core_py.ports import Channel, Disk, Transport, methods_of
from pd_py.metastore import links
from pd_py.metastore.durable_log import DurableLog
from pd_py.metastore.members import Member, bare_address, from_pb, group_id, parse_initial_cluster, to_pb
from pd_py.metastore.state_machine import StateMachine, first_state
from protos.etcd import rpc_pb2
from protos.private import metaraft_pb2

IDENTITY_FILE = "member"
FIRST_INDEX, FIRST_TERM = 5, 5
"""Where the log of a group begins; not at 0, so that a member that joins is given the first state in a snapshot."""
ASK_TIMEOUT_S = 2.0
JOIN_TIMEOUT_S = 10.0
_CLUSTER = methods_of(rpc_pb2.DESCRIPTOR.services_by_name["Cluster"])


@dataclass(frozen=True, slots=True)
class Birth:
    """What the configuration says of this member's beginning."""

    name: str
    peer_urls: tuple[str, ...]
    initial_cluster: str
    join: str
    token: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this member is. `members` is how the group looked when it came into being."""

    member_id: int
    group_id: int
    members: tuple[Member, ...]
    restarted: bool


def _read(disk: Disk) -> metaraft_pb2.Identity | None:
    data = disk.read(IDENTITY_FILE)
    return None if data is None else metaraft_pb2.Identity.FromString(data)


async def establish(birth: Birth, disk: Disk, log: DurableLog, transport: Transport) -> Identity:
    """Find or make this member's identity; its log is begun on return, unless the leader will. Raises ConfigError, StorageError."""
    stored = _read(disk)
    if stored is not None and not log.is_empty:
        return _identity(stored, restarted=True)
    if stored is None and not log.is_empty:
        raise StorageError(
            f"{IDENTITY_FILE} is missing beside the log: restore it, or join with an empty data directory"
        )
    if stored is None:
        stored = await _join(birth, transport) if birth.join else await _first(birth, transport)
        disk.replace(IDENTITY_FILE, stored.SerializeToString())
    identity = _identity(stored, restarted=False)
    if not any(member.id == identity.member_id and member.is_learner for member in identity.members):
        _begin(log, identity)
    return identity


def _identity(stored: metaraft_pb2.Identity, *, restarted: bool) -> Identity:
    return Identity(
        stored.member_id, stored.group_id, tuple(from_pb(member) for member in stored.members), restarted=restarted
    )


def _begin(log: DurableLog, identity: Identity) -> None:
    machine = StateMachine()
    machine.members.load(identity.members)
    log.begin(first_state(machine), FIRST_INDEX, FIRST_TERM, machine.image())


async def _first(birth: Birth, transport: Transport) -> metaraft_pb2.Identity:
    text = birth.initial_cluster or ",".join(f"{birth.name}={url}" for url in birth.peer_urls)
    members = parse_initial_cluster(text, birth.token)
    own = next((member for member in members if member.name == birth.name), None)
    if own is None:
        raise ConfigError(f"initial-cluster does not name this member {birth.name!r}")
    for other in members:
        if other.id == own.id:
            continue
        channel = transport.connect(other.peer_address)
        try:
            await _refuse_if_known(channel, own, other)
        finally:
            await channel.close()
    return metaraft_pb2.Identity(
        group_id=group_id(members, birth.token), member_id=own.id, members=[to_pb(member) for member in members]
    )


async def _refuse_if_known(channel: Channel, own: Member, other: Member) -> None:
    """Raise ConfigError if another member has seen this one run."""
    answer = await links.describe(channel, ASK_TIMEOUT_S)
    for member in answer.members if answer is not None else ():
        if member.id == own.id and member.client_urls:
            raise ConfigError(
                f"member {own.name} has already been bootstrapped, says {other.name}, but its data directory is empty:"
                f" remove it (`pd-py ctl member delete name {own.name}`) and start it with --join"
            )


async def _join(birth: Birth, transport: Transport) -> metaraft_pb2.Identity:
    """Ask a running cluster for a place. Raises ConfigError."""
    reasons: list[str] = []
    for url in (part.strip() for part in birth.join.split(",") if part.strip()):
        channel = transport.connect(bare_address(url))
        request = rpc_pb2.MemberAddRequest(peerURLs=birth.peer_urls, isLearner=True)
        try:
            answer = await channel.unary(_CLUSTER["MemberAdd"], request, timeout_s=JOIN_TIMEOUT_S)
        except DbError as error:
            reasons.append(f"{url}: {error}")
            continue
        finally:
            await channel.close()
        own = answer.member.ID
        members = [
            Member(one.ID, one.name, tuple(one.peerURLs), tuple(one.clientURLs), one.isLearner)
            for one in answer.members
        ]
        return metaraft_pb2.Identity(
            group_id=answer.header.cluster_id, member_id=own, members=[to_pb(member) for member in members]
        )
    raise ConfigError(f"cannot join: {'; '.join(reasons) or 'join names no member'}")
