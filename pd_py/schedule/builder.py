"""From the replicas a region has to those it should have: the steps between.

Two ways. With joint consensus, when more than one replica changes: add all new ones as learners, move leadership where it may stay,
change all votes at once, remove what is left over. Without: one replica after another, a new one before the old one it replaces,
the nearest by location first. Both keep these rules: a replica is removed only after its replacement votes; the leader is never
demoted or removed, it hands over first; no two replicas of a region stand on one store, but when a voter without joint consensus
becomes a learner, which is a removal and an addition.

Invariant: the steps applied one by one end in the wanted replicas (`tests/unit/pd/test_schedule_builder.py` tries all it can).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from core_py.errors import PdError, RetryClass
from pd_py.schedule.context import OUT_OF_IDS, Context
from pd_py.schedule.filters import leader_allowed, leader_target, passes
from pd_py.schedule.operator import (
    AddLearner,
    ChangePeerV2Enter,
    ChangePeerV2Leave,
    DemoteVoter,
    Operator,
    OpKind,
    Priority,
    PromoteLearner,
    RemovePeer,
    Step,
    TransferLeader,
)
from pd_py.schedule.placement.labels import first_difference
from pd_py.schedule.view import PeerView, RegionView, Role


class CannotBuild(PdError):
    """There is no way to what was asked for."""

    code = "PD:schedule:ErrCreateOperator"
    retry = RetryClass.NEVER

    def __init__(self, what: str) -> None:
        super().__init__(f"unable to create operator, {what}")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a region should look like."""

    peers: Mapping[int, Role]
    """Store to role, VOTER or LEARNER."""
    leader: int = 0
    """The store that should lead; 0 leaves it open."""
    also: tuple[int, ...] = ()
    """Further stores that may take the leadership."""
    light: bool = False
    """Part of a scattering: additions cost nothing of the stores' limits."""
    light_removal: bool = False
    """Removals neither."""
    force_leader: bool = False
    """Take the leader even if its store does not want leaders."""
    prefer: Mapping[int, int] = field(default_factory=dict)
    """Store to rank by its rule, for picking a leader: higher is better, below zero never."""


@dataclass(slots=True)
class _Plan:
    """The work of one build."""

    context: Context
    region: RegionView
    wish: Wish
    target_leader: int
    current: dict[int, PeerView]
    leader: int
    add: dict[int, PeerView] = field(default_factory=dict)
    remove: dict[int, PeerView] = field(default_factory=dict)
    promote: dict[int, PeerView] = field(default_factory=dict)
    demote: dict[int, PeerView] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    kind: OpKind = OpKind.NONE

    def may_lead(self, store_id: int, role: Role) -> bool:
        """Whether a replica on a store could lead."""
        if role is Role.LEARNER or self.wish.prefer.get(store_id, 0) < 0:
            return False
        if store_id == self.region.leader_store_id:
            return True
        store = self.context.store(store_id)
        peer = self.region.on_store(store_id)
        if store is None or (peer is not None and peer.peer_id in self.region.down | self.region.pending):
            return False  # one that lags refuses the leadership
        if self.wish.force_leader:
            return True
        return passes(store, (leader_target(self.context), leader_allowed(self.context, self.region)))

    def add_learner(self, peer: PeerView) -> None:
        """Put a replica on a store."""
        self.steps.append(AddLearner(peer.store_id, peer.peer_id, self.wish.light))
        self.current[peer.store_id] = PeerView(peer.peer_id, peer.store_id, Role.LEARNER)
        self.kind |= OpKind.REGION

    def promote_one(self, peer: PeerView) -> None:
        """Give a replica its vote."""
        self.steps.append(PromoteLearner(peer.store_id, peer.peer_id))
        self.current[peer.store_id] = PeerView(peer.peer_id, peer.store_id, Role.VOTER)

    def remove_one(self, peer: PeerView) -> None:
        """Take a replica away."""
        self.steps.append(RemovePeer(peer.store_id, peer.peer_id, self.wish.light_removal))
        del self.current[peer.store_id]
        self.kind |= OpKind.REGION

    def transfer(self, store_id: int) -> None:
        """Let another replica lead."""
        if self.leader == store_id:
            return
        also = self.wish.also if store_id == self.wish.leader else ()
        self.steps.append(TransferLeader(self.leader, store_id, also))
        self.leader = store_id
        self.kind |= OpKind.LEADER


def build(
    context: Context,
    description: str,
    region: RegionView,
    wish: Wish,
    kind: OpKind = OpKind.NONE,
    *,
    priority: Priority | None = None,
) -> Operator:
    """The operator that makes a wish true. Raises CannotBuild."""
    plan = _prepare(context, region, wish)
    brief = _brief(plan)
    changes = len(plan.add) + len(plan.remove) + len(plan.promote)
    single = changes <= 1 and not plan.demote and not (len(plan.remove) == 1 and len(wish.peers) == 1)
    if context.options.enable_joint_consensus and not single:
        _joint(plan)
    else:
        _one_by_one(plan)
    if not plan.steps:
        raise CannotBuild("no operator step is built")
    return Operator(
        description,
        region.region_id,
        region.conf_ver,
        region.version,
        tuple(plan.steps),
        kind | plan.kind,
        brief,
        region.size_bytes,
        priority if priority is not None else Priority.URGENT if kind & OpKind.ADMIN else Priority.MEDIUM,
    )


def _prepare(context: Context, region: RegionView, wish: Wish) -> _Plan:
    """Compare what is with what should be."""
    if region.is_joint:
        raise CannotBuild("region is in joint state")
    if not region.leader_store_id or region.on_store(region.leader_store_id) is None:
        raise CannotBuild("region has no leader")
    if Role.VOTER not in wish.peers.values():
        raise CannotBuild("target peers have no voter")
    current = {peer.store_id: peer for peer in region.peers}
    plan = _Plan(context, region, wish, wish.leader, current, region.leader_store_id)
    for store_id, peer in sorted(current.items()):
        wanted = wish.peers.get(store_id)
        if wanted is None:
            plan.remove[store_id] = peer
        elif peer.role is Role.LEARNER and wanted is Role.VOTER:
            plan.promote[store_id] = PeerView(peer.peer_id, store_id, Role.VOTER)
        elif peer.role is Role.VOTER and wanted is Role.LEARNER:
            plan.demote[store_id] = PeerView(peer.peer_id, store_id, Role.LEARNER)
    for store_id, wanted in sorted(wish.peers.items()):
        if store_id not in current:
            if context.store(store_id) is None:
                raise CannotBuild(f"store {store_id} not found")
            plan.add[store_id] = PeerView(_fresh_id(context), store_id, wanted)
    if plan.target_leader:
        role = wish.peers.get(plan.target_leader)
        if role is not Role.VOTER or not plan.may_lead(plan.target_leader, role):
            raise CannotBuild("target leader is not allowed")
    return plan


def _fresh_id(context: Context) -> int:
    peer_id = context.alloc_peer_id()
    if peer_id == OUT_OF_IDS:
        raise CannotBuild("no peer id at hand")
    return peer_id


def _pick_leader(plan: _Plan) -> int:
    """The best leader of the wanted replicas: by rule, on a store that is up, the present one, one that votes already."""
    best, best_rank = 0, (-1,) * 5
    for store_id, role in sorted(plan.wish.peers.items()):
        if not plan.may_lead(store_id, role):
            continue
        store = plan.context.store(store_id)
        before = plan.region.on_store(store_id)
        pending = before is not None and before.peer_id in plan.region.pending
        rank = (
            plan.wish.prefer.get(store_id, 0),
            int(store is not None and store.is_up),
            int(store_id == plan.region.leader_store_id),
            int(before is not None and before.role is Role.VOTER and not pending),
            int(before is not None),
        )
        if rank > best_rank:
            best, best_rank = store_id, rank
    if not best:
        raise CannotBuild("no valid leader")
    return best


def _joint(plan: _Plan) -> None:
    """All changes of votes at once."""
    for store_id, peer in plan.add.items():
        plan.add_learner(peer)
        if peer.role is Role.VOTER:
            plan.promote[store_id] = peer
    for store_id, peer in plan.remove.items():
        if peer.role is Role.VOTER:
            plan.demote[store_id] = peer
    target = plan.target_leader or _pick_leader(plan)
    before = plan.region.on_store(target)
    stays = plan.wish.peers.get(plan.leader) is Role.VOTER
    if before is not None and before.role is Role.VOTER:
        plan.transfer(target)
        _change_votes(plan)
    elif stays:
        _change_votes(plan)
        plan.transfer(target)
    else:
        _change_votes(plan, target)
    for peer in plan.remove.values():
        plan.remove_one(peer)


def _change_votes(plan: _Plan, leader_inside: int = 0) -> None:
    """Enter and leave the joint state; leadership moves within it when neither the old nor the new leader votes on both sides."""
    promotes = tuple(PromoteLearner(one.store_id, one.peer_id) for _, one in sorted(plan.promote.items()))
    demotes = tuple(DemoteVoter(one.store_id, one.peer_id) for _, one in sorted(plan.demote.items()))
    if promotes or demotes:
        plan.steps.append(ChangePeerV2Enter(promotes, demotes))
    if leader_inside:
        plan.transfer(leader_inside)
    if len(promotes) + len(demotes) > 1:
        plan.steps.append(ChangePeerV2Leave(promotes, demotes))
    for one in plan.promote.values():
        plan.current[one.store_id] = PeerView(one.peer_id, one.store_id, Role.VOTER)
    for one in plan.demote.values():
        plan.current[one.store_id] = PeerView(one.peer_id, one.store_id, Role.LEARNER)


def _one_by_one(plan: _Plan) -> None:
    """One replica after another: first what gives votes, each followed by the removal it makes up for."""
    for store_id in sorted(plan.demote):
        plan.remove[store_id] = plan.region.on_store(store_id) or plan.demote[store_id]
    for peer in list(plan.promote.values()):
        plan.promote_one(peer)
        _remove_voter(plan)
    voters = [peer for peer in plan.add.values() if peer.role is Role.VOTER]
    for peer in voters:
        plan.add_learner(peer)
        plan.promote_one(peer)
        _remove_voter(plan, near=peer.store_id)
    for peer in [peer for peer in plan.add.values() if peer.role is Role.LEARNER]:
        plan.add_learner(peer)
    for peer in sorted(plan.remove.values(), key=lambda one: (one.role is not Role.LEARNER, one.store_id)):
        _remove(plan, peer)
    for store_id in sorted(plan.demote):
        plan.add_learner(PeerView(_fresh_id(plan.context), store_id, Role.LEARNER))
    if plan.target_leader:
        plan.transfer(plan.target_leader)


def _remove_voter(plan: _Plan, near: int = 0) -> None:
    """Remove the voter that was just made up for: the nearest to the new one, a broken one first."""
    voters = [peer for peer in plan.remove.values() if peer.role is Role.VOTER]
    if voters:
        broken = plan.region.down | plan.region.pending
        _remove(
            plan,
            max(voters, key=lambda one: (one.peer_id in broken, _nearness(plan, near, one.store_id), -one.store_id)),
        )


def _nearness(plan: _Plan, one_id: int, other_id: int) -> int:
    levels = plan.context.options.location_labels
    one, other = plan.context.store(one_id), plan.context.store(other_id)
    if one is None or other is None:
        return 0
    at = first_difference(one, other, levels)
    return len(levels) if at < 0 else at


def _remove(plan: _Plan, peer: PeerView) -> None:
    """Remove a replica, after the leadership has moved from it to one that stays."""
    del plan.remove[peer.store_id]
    if plan.leader == peer.store_id:
        plan.transfer(_heir(plan, peer))
    plan.remove_one(peer)


def _heir(plan: _Plan, leaving: PeerView) -> int:
    """Who leads when a leader is removed: the wanted leader if it votes by now, else the best of those that vote."""
    ranks: dict[int, tuple[int, ...]] = {}
    for store_id, peer in sorted(plan.current.items()):
        if store_id == leaving.store_id or peer.role is not Role.VOTER or not plan.may_lead(store_id, peer.role):
            continue
        before = plan.region.on_store(store_id)
        ranks[store_id] = (
            int(store_id == plan.target_leader),
            int(store_id in plan.wish.peers and store_id not in plan.demote),
            plan.wish.prefer.get(store_id, 0),
            int(before is not None and before.peer_id not in plan.region.pending),
            -store_id,
        )
    if not ranks:
        raise CannotBuild("no valid leader")
    return max(ranks, key=lambda store_id: ranks[store_id])


def _brief(plan: _Plan) -> str:
    """What the operator does, in the public words."""

    def names(peers: Mapping[int, PeerView]) -> str:
        return "[" + ",".join(map(str, sorted(peers))) + "]"

    if plan.add and plan.remove:
        what = "mv light peer" if plan.wish.light else "mv peer"
        return f"{what}: store {names(plan.remove)} to {names(plan.add)}"
    if plan.add:
        return f"add peer: store {names(plan.add)}"
    if plan.remove and plan.promote:
        return f"promote peer: store {names(plan.promote)}, rm peer: store {names(plan.remove)}"
    if plan.remove and plan.demote:
        return f"demote peer: store {names(plan.demote)}, rm peer: store {names(plan.remove)}"
    if plan.remove:
        return f"rm peer: store {names(plan.remove)}"
    if plan.promote:
        return f"promote peer: store {names(plan.promote)}"
    if plan.demote:
        return f"demote peer: store {names(plan.demote)}"
    return f"transfer leader: store {plan.leader} to {plan.target_leader}"
