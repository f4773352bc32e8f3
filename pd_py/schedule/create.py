"""The operators that checkers, schedulers and people ask for, by what they do. All raise CannotBuild when there is no way."""

from __future__ import annotations

from collections.abc import Mapping

from pd_py.schedule.builder import CannotBuild, Wish, build
from pd_py.schedule.context import Context
from pd_py.schedule.filters import can_lead
from pd_py.schedule.operator import (
    ChangePeerV2Leave,
    DemoteVoter,
    MergeRegion,
    Operator,
    OpKind,
    Priority,
    PromoteLearner,
    SplitPolicy,
    SplitRegion,
    Step,
    TransferLeader,
)
from pd_py.schedule.placement.rule import RuleRole
from pd_py.schedule.view import RegionView, Role

LEAVE_JOINT_STATE = "leave-joint-state"


def _roles(region: RegionView) -> dict[int, Role]:
    return {peer.store_id: peer.role for peer in region.peers}


def add_peer(
    context: Context,
    description: str,
    region: RegionView,
    store_id: int,
    role: Role = Role.VOTER,
    kind: OpKind = OpKind.NONE,
    *,
    priority: Priority | None = None,
) -> Operator:
    """One more replica."""
    if region.on_store(store_id) is not None:
        raise CannotBuild(f"region already has peer in store {store_id}")
    wish = Wish({**_roles(region), store_id: role})
    return build(context, description, region, wish, kind, priority=priority)


def remove_peer(
    context: Context, description: str, region: RegionView, store_id: int, kind: OpKind = OpKind.NONE
) -> Operator:
    """One replica less."""
    roles = _roles(region)
    if roles.pop(store_id, None) is None:
        raise CannotBuild(f"cannot remove peer from {store_id}: not found")
    return build(context, description, region, Wish(roles), kind)


def move_peer(
    context: Context,
    description: str,
    region: RegionView,
    source: int,
    target: int,
    kind: OpKind = OpKind.NONE,
    *,
    role: Role | None = None,
    leader: int = 0,
    priority: Priority | None = None,
) -> Operator:
    """A replica on another store, with the role it had unless another is given; `leader` leads then."""
    roles = _roles(region)
    old = roles.pop(source, None)
    if old is None:
        raise CannotBuild(f"cannot remove peer from {source}: not found")
    if target in roles:
        raise CannotBuild(f"cannot add peer to {target}: already have peer")
    roles[target] = old if role is None else role
    return build(context, description, region, Wish(roles, leader), kind, priority=priority)


def promote_learner(context: Context, description: str, region: RegionView, store_id: int, remove: int = 0) -> Operator:
    """Give a learner its vote, and with `remove` take away the replica it stands in for."""
    roles = {**_roles(region), store_id: Role.VOTER}
    roles.pop(remove, None)
    return build(context, description, region, Wish(roles))


def demote_voter(context: Context, description: str, region: RegionView, store_id: int) -> Operator:
    """Take a replica's vote."""
    return build(context, description, region, Wish({**_roles(region), store_id: Role.LEARNER}))


def transfer_leader(
    context: Context,
    description: str,
    region: RegionView,
    target: int,
    kind: OpKind = OpKind.NONE,
    *,
    also: tuple[int, ...] = (),
    force: bool = False,
    priority: Priority | None = None,
) -> Operator:
    """Let another replica lead; with `also`, any of several."""
    peer = region.on_store(target)
    if peer is None or peer.role is not Role.VOTER:
        raise CannotBuild(f"cannot transfer leader to {target}: not voter")
    if peer.peer_id in region.down or peer.peer_id in region.pending:
        raise CannotBuild(f"cannot transfer leader to {target}: unhealthy")
    if region.leader_store_id == target:
        raise CannotBuild(f"store {target} leads already")
    others = tuple(
        store_id
        for store_id in also
        if store_id != target and (other := region.on_store(store_id)) and can_lead(context, region, other)
    )
    wish = Wish(_roles(region), target, others, force_leader=force)
    return build(context, description, region, wish, kind, priority=priority)


def move_region(
    context: Context,
    description: str,
    region: RegionView,
    roles: Mapping[int, RuleRole],
    kind: OpKind = OpKind.NONE,
    *,
    leader: int = 0,
    light: bool = False,
    light_removal: bool = False,
    force_leader: bool = False,
) -> Operator:
    """All replicas as wanted: store to role."""
    leaders = [store_id for store_id, role in sorted(roles.items()) if role is RuleRole.LEADER]
    if len(leaders) > 1:
        raise CannotBuild("region cannot have multiple leaders")
    if not any(role in (RuleRole.LEADER, RuleRole.VOTER) for role in roles.values()):
        raise CannotBuild("region need at least 1 voter or leader")
    ranks = {RuleRole.LEADER: 1, RuleRole.VOTER: 0, RuleRole.FOLLOWER: -1, RuleRole.LEARNER: -1}
    wish = Wish(
        {store_id: role.peer_role for store_id, role in roles.items()},
        leader or (leaders[0] if leaders else 0),
        light=light,
        light_removal=light_removal,
        force_leader=force_leader,
        prefer={store_id: ranks[role] for store_id, role in roles.items()},
    )
    return build(context, description, region, wish, kind)


def split_region(
    description: str, region: RegionView, kind: OpKind, policy: SplitPolicy, keys: tuple[bytes, ...] = ()
) -> Operator:
    """Split a region, at keys with the policy USEKEY."""
    if region.is_joint:
        raise CannotBuild("cannot split region which is in joint state")
    if policy is SplitPolicy.USEKEY:
        inside = all(region.start_key < key and (not region.end_key or key < region.end_key) for key in keys)
        if not keys or not inside:
            raise CannotBuild(f"split keys do not lie inside of region {region.region_id}")
    brief = f"split: region {region.region_id} use policy {policy.name}"
    if keys:
        brief += " and keys [" + " ".join(key.hex().upper() for key in keys[:16]) + "]"
    return Operator(
        description,
        region.region_id,
        region.conf_ver,
        region.version,
        (SplitRegion(region.start_key, region.end_key, policy, tuple(sorted(set(keys)))),),
        kind | OpKind.SPLIT,
        brief,
        region.size_bytes,
        Priority.URGENT if kind & OpKind.ADMIN else Priority.MEDIUM,
    )


def same_places(one: RegionView, other: RegionView) -> bool:
    """Whether two regions have replicas of the same roles on the same stores."""
    return {(peer.store_id, peer.role) for peer in one.peers} == {(peer.store_id, peer.role) for peer in other.peers}


def merge_regions(
    context: Context, description: str, source: RegionView, target: RegionView, kind: OpKind
) -> tuple[Operator, Operator]:
    """Merge `source` into its neighbour: bring its replicas to the neighbour's stores, then merge. One operator for each region."""
    if source.is_joint or target.is_joint:
        raise CannotBuild("cannot merge regions which are in joint state")
    steps: tuple[Step, ...] = ()
    if not same_places(source, target):
        matching = build(context, description, source, Wish(_roles(target)), kind)
        steps, kind = matching.steps, matching.kind
    brief = f"merge: region {source.region_id} to {target.region_id}"
    priority = Priority.URGENT if kind & OpKind.ADMIN else Priority.MEDIUM
    merging = MergeRegion(source, target)
    first = Operator(
        description,
        source.region_id,
        source.conf_ver,
        source.version,
        (*steps, merging),
        kind,
        brief,
        source.size_bytes,
        priority,
        target.region_id,
    )
    passive = MergeRegion(source, target, passive=True)
    second = Operator(
        description,
        target.region_id,
        target.conf_ver,
        target.version,
        (passive,),
        kind,
        brief,
        max(source.size_bytes, target.size_bytes),
        priority,
        source.region_id,
    )
    return first, second


def leave_joint_state(context: Context, region: RegionView) -> Operator:
    """Finish a change of replicas that was entered; a leader that loses its vote hands over first."""
    promotes = tuple(
        PromoteLearner(peer.store_id, peer.peer_id) for peer in region.peers if peer.role is Role.INCOMING_VOTER
    )
    demotes = tuple(
        DemoteVoter(peer.store_id, peer.peer_id) for peer in region.peers if peer.role is Role.DEMOTING_VOTER
    )
    if not promotes and not demotes:
        raise CannotBuild("region is not in joint state")
    steps: list[Step] = []
    kind = OpKind.NONE
    leader = region.on_store(region.leader_store_id)
    if leader is not None and leader.role is Role.DEMOTING_VOTER:
        steps.append(TransferLeader(leader.store_id, _joint_heir(context, region)))
        kind = OpKind.LEADER
    steps.append(ChangePeerV2Leave(promotes, demotes))
    return Operator(
        LEAVE_JOINT_STATE,
        region.region_id,
        region.conf_ver,
        region.version,
        tuple(steps),
        kind,
        "leave joint state",
        region.size_bytes,
        Priority.HIGH,
    )


def _joint_heir(context: Context, region: RegionView) -> int:
    """Who can lead after the joint state; one whose store wants no leaders if there is no other."""
    staying = [peer for peer in region.peers if peer.role in (Role.VOTER, Role.INCOMING_VOTER)]
    healthy = [peer for peer in staying if peer.peer_id not in region.down]
    if not healthy:
        raise CannotBuild("no target leader")

    def rank(peer_store: int) -> tuple[bool, bool]:
        store = context.store(peer_store)
        known = store is not None and store.is_up
        return (known, known and store is not None and context.takes_leaders(store))

    return max(healthy, key=lambda peer: (rank(peer.store_id), peer.role is Role.VOTER, -peer.store_id)).store_id
