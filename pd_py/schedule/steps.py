"""Steps of operators that change replicas and leadership: what each asks of the region's leader, and how its effect is seen.

A step is a value. It knows from a region's report whether it is done (`is_finished`), how far it has moved `conf_ver`
(`conf_ver_changed`, counted for steps done and under way, so that a foreign change shows as a difference), why it can no longer
be done (`problem`, empty while it can), what it does to the stores (`influence`) and how long it may take. Texts are the public
ones. Commands for the wire are made in `pd_py.cluster.step_command`. Steps that change key ranges are in `range_steps`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pd_py.schedule.influence import Influence, step_cost
from pd_py.schedule.options import MIB
from pd_py.schedule.view import ClusterView, PeerView, RegionView, Role, StoreState

FAST_STEP_S = 60.0
SLOW_STEP_S = 600.0
FAST_S_PER_MIB = 0.6
SLOW_S_PER_MIB = 6.0


def fast_step_s(size_bytes: int) -> float:
    """How long a step may take that moves no data. Heartbeats come up to a minute apart."""
    return max(FAST_STEP_S, FAST_S_PER_MIB * (size_bytes // MIB))


def slow_step_s(size_bytes: int) -> float:
    """How long a step may take that sends a snapshot."""
    return max(SLOW_STEP_S, SLOW_S_PER_MIB * (size_bytes // MIB))


def store_problem(view: ClusterView, store_id: int) -> str:
    """Why a store cannot be the target of a step; empty when it can."""
    store = view.store(store_id)
    if store is None:
        return "target store does not exist"
    return "target store is down" if store.state is StoreState.DOWN else ""


def _silence(view: ClusterView, store_id: int) -> str:
    """A transfer to a store that does not answer would keep its place among the few for a minute."""
    store = view.store(store_id)
    return "target store is disconnected" if store is not None and store.state is StoreState.DISCONNECTED else ""


def _has(region: RegionView, store_id: int, peer_id: int) -> bool:
    peer = region.on_store(store_id)
    return peer is not None and peer.peer_id == peer_id


def _adding_problem(view: ClusterView, region: RegionView, store_id: int, peer_id: int) -> str:
    peer = region.on_store(store_id)
    if peer is not None and peer.peer_id != peer_id:
        return (
            f"peer {peer.peer_id} has already existed in store {store_id}, the operator is trying to add peer {peer_id}"
        )
    return store_problem(view, store_id)


def _add_influence(influence: Influence, region: RegionView, store_id: int, *, light: bool) -> None:
    to = influence.on(store_id)
    to.region_count += 1
    to.region_bytes += region.size_bytes
    if not light:
        to.add_cost += step_cost(region.size_bytes)


@dataclass(frozen=True, slots=True)
class AddLearner:
    """Put a new replica on a store, without a vote at first."""

    store_id: int
    peer_id: int
    light: bool = False
    """A scattering of fresh regions: costs nothing of the store's limit."""

    def __str__(self) -> str:
        return f"add learner peer {self.peer_id} on store {self.store_id}"

    def is_finished(self, region: RegionView) -> bool:
        """The replica is there and has caught up."""
        return _has(region, self.store_id, self.peer_id) and self.peer_id not in region.pending

    def conf_ver_changed(self, region: RegionView) -> int:
        """How much this step has moved conf_ver."""
        return int(_has(region, self.store_id, self.peer_id))

    def problem(self, view: ClusterView, region: RegionView) -> str:
        """Why it cannot go on."""
        return _adding_problem(view, region, self.store_id, self.peer_id)

    def influence(self, influence: Influence, region: RegionView) -> None:
        """The store gains a replica."""
        _add_influence(influence, region, self.store_id, light=self.light)

    def timeout_s(self, size_bytes: int) -> float:
        """A snapshot is sent."""
        return slow_step_s(size_bytes)


@dataclass(frozen=True, slots=True)
class AddPeer:
    """Put a new replica on a store that votes at once, as operators of versions without learners did."""

    store_id: int
    peer_id: int
    light: bool = False

    def __str__(self) -> str:
        return f"add peer {self.peer_id} on store {self.store_id}"

    def is_finished(self, region: RegionView) -> bool:
        """It votes and has caught up."""
        peer = region.on_store(self.store_id)
        return (
            peer is not None
            and peer.peer_id == self.peer_id
            and peer.role is Role.VOTER
            and peer.peer_id not in region.pending
        )

    def conf_ver_changed(self, region: RegionView) -> int:
        """How much this step has moved conf_ver."""
        return int(_has(region, self.store_id, self.peer_id))

    def problem(self, view: ClusterView, region: RegionView) -> str:
        """Why it cannot go on."""
        return _adding_problem(view, region, self.store_id, self.peer_id)

    def influence(self, influence: Influence, region: RegionView) -> None:
        """The store gains a replica."""
        _add_influence(influence, region, self.store_id, light=self.light)

    def timeout_s(self, size_bytes: int) -> float:
        """A snapshot is sent."""
        return slow_step_s(size_bytes)


@dataclass(frozen=True, slots=True)
class PromoteLearner:
    """Give a replica its vote."""

    store_id: int
    peer_id: int

    def __str__(self) -> str:
        return f"promote learner peer {self.peer_id} on store {self.store_id} to voter"

    def is_finished(self, region: RegionView) -> bool:
        """The replica votes."""
        peer = region.on_store(self.store_id)
        return peer is not None and peer.peer_id == self.peer_id and peer.role is Role.VOTER

    def conf_ver_changed(self, region: RegionView) -> int:
        """How much this step has moved conf_ver."""
        return int(self.is_finished(region))

    def problem(self, view: ClusterView, region: RegionView) -> str:
        """Why it cannot go on."""
        return "" if _has(region, self.store_id, self.peer_id) else "peer does not exist"

    def influence(self, influence: Influence, region: RegionView) -> None:
        """Nothing moves."""

    def timeout_s(self, size_bytes: int) -> float:
        """No data moves."""
        return fast_step_s(size_bytes)


@dataclass(frozen=True, slots=True)
class DemoteVoter:
    """Take a replica's vote, as part of a change of several replicas at once."""

    store_id: int
    peer_id: int

    def __str__(self) -> str:
        return f"demote voter peer {self.peer_id} on store {self.store_id} to learner"

    def is_finished(self, region: RegionView) -> bool:
        """It is a learner."""
        peer = region.on_store(self.store_id)
        return peer is not None and peer.peer_id == self.peer_id and peer.role is Role.LEARNER

    def conf_ver_changed(self, region: RegionView) -> int:
        """How much this step has moved conf_ver; the demoted replica may be gone already."""
        return int(region.on_store(self.store_id) is None or self.is_finished(region))

    def problem(self, view: ClusterView, region: RegionView) -> str:
        """Why it cannot go on."""
        if region.leader_store_id == self.store_id:
            return "cannot demote leader peer"
        return "" if _has(region, self.store_id, self.peer_id) else "peer does not exist"

    def influence(self, influence: Influence, region: RegionView) -> None:
        """Nothing moves."""

    def timeout_s(self, size_bytes: int) -> float:
        """No data moves."""
        return fast_step_s(size_bytes)


@dataclass(frozen=True, slots=True)
class TransferLeader:
    """Let another replica lead."""

    from_store_id: int
    to_store_id: int
    also: tuple[int, ...] = ()
    """Further stores whose replicas may take the leadership, whoever is ready first."""

    def __str__(self) -> str:
        return f"transfer leader from store {self.from_store_id} to store {self.to_store_id}"

    def is_finished(self, region: RegionView) -> bool:
        """One of the targets leads."""
        return region.leader_store_id == self.to_store_id or region.leader_store_id in self.also

    def conf_ver_changed(self, region: RegionView) -> int:
        """Leadership is not part of the epoch."""
        return 0

    def problem(self, view: ClusterView, region: RegionView) -> str:
        """Why it cannot go on: no target is left that may lead."""
        problem = ""
        for store_id in (self.to_store_id, *self.also):
            peer = region.on_store(store_id)
            if peer is None:
                problem = "peer does not existed"
            elif peer.role is Role.LEARNER:
                problem = "peer already is a learner"
            else:
                problem = store_problem(view, store_id) or _silence(view, store_id)
            if not problem:
                return ""
        return problem

    def influence(self, influence: Influence, region: RegionView) -> None:
        """A leader moves."""
        source, target = influence.on(self.from_store_id), influence.on(self.to_store_id)
        source.leader_count -= 1
        source.leader_bytes -= region.size_bytes
        target.leader_count += 1
        target.leader_bytes += region.size_bytes

    def timeout_s(self, size_bytes: int) -> float:
        """No data moves."""
        return fast_step_s(size_bytes)


@dataclass(frozen=True, slots=True)
class RemovePeer:
    """Take a replica away."""

    store_id: int
    peer_id: int
    light: bool = False

    def __str__(self) -> str:
        return f"remove peer on store {self.store_id}"

    def is_finished(self, region: RegionView) -> bool:
        """It is gone."""
        return not _has(region, self.store_id, self.peer_id)

    def conf_ver_changed(self, region: RegionView) -> int:
        """How much this step has moved conf_ver; another replica may stand on the store by now."""
        return int(self.is_finished(region))

    def problem(self, view: ClusterView, region: RegionView) -> str:
        """Why it cannot go on. A leader does not remove itself: it must be decided again."""
        return "cannot remove leader peer" if region.leader_store_id == self.store_id else ""

    def influence(self, influence: Influence, region: RegionView) -> None:
        """The store loses a replica."""
        source = influence.on(self.store_id)
        source.region_count -= 1
        source.region_bytes -= region.size_bytes
        if not self.light:
            source.remove_cost += step_cost(region.size_bytes)

    def timeout_s(self, size_bytes: int) -> float:
        """No data moves."""
        return fast_step_s(size_bytes)


def _joint_problem(
    region: RegionView, promotes: tuple[PromoteLearner, ...], demotes: tuple[DemoteVoter, ...], *, leaving: bool
) -> str:
    """Why a change of several replicas cannot be entered or left as planned."""
    inside = outside = 0
    changes: list[tuple[PromoteLearner | DemoteVoter, Role, tuple[Role, ...]]] = [
        *((step, Role.INCOMING_VOTER, (Role.LEARNER, Role.VOTER)) for step in promotes),
        *((step, Role.DEMOTING_VOTER, (Role.VOTER, Role.LEARNER)) for step in demotes),
    ]
    for step, joint_role, (before, after) in changes:
        peer = region.on_store(step.store_id)
        if peer is None or peer.peer_id != step.peer_id:
            return "peer does not exist"
        if peer.role is joint_role:
            inside += 1
        elif peer.role is after or (peer.role is before and not leaving):
            outside += 1
        else:
            return f"unexpected role {peer.role.name} of peer {peer.peer_id}"
    joint = sum(peer.role in (Role.INCOMING_VOTER, Role.DEMOTING_VOTER) for peer in region.peers)
    if inside and outside:
        return "non-atomic joint consensus"
    if (outside and joint) or (inside and joint != len(changes)):
        return "some other peers are in joint state"
    if leaving and inside and any(step.store_id == region.leader_store_id for step in demotes):
        return "cannot demote leader peer"
    return ""


def _joint_text(name: str, promotes: tuple[PromoteLearner, ...], demotes: tuple[DemoteVoter, ...]) -> str:
    return ", ".join([name, *map(str, promotes), *map(str, demotes)])


@dataclass(frozen=True, slots=True)
class ChangePeerV2Enter:
    """Enter the joint state in which several replicas change their votes at once. A single change is made at once, without it."""

    promotes: tuple[PromoteLearner, ...]
    demotes: tuple[DemoteVoter, ...]

    def __str__(self) -> str:
        return _joint_text("use joint consensus", self.promotes, self.demotes)

    def is_finished(self, region: RegionView) -> bool:
        """All have the role of the joint state, or that after it."""
        promoted = all(
            _has_role(region, one.store_id, one.peer_id, Role.VOTER, Role.INCOMING_VOTER) for one in self.promotes
        )
        return promoted and all(
            _has_role(region, one.store_id, one.peer_id, Role.LEARNER, Role.DEMOTING_VOTER) for one in self.demotes
        )

    def conf_ver_changed(self, region: RegionView) -> int:
        """Each change counts one, and all come together; the demoted replicas may be gone already."""
        promoted = all(
            _has_role(region, one.store_id, one.peer_id, Role.VOTER, Role.INCOMING_VOTER) for one in self.promotes
        )
        demoted = all(
            region.on_store(one.store_id) is None
            or _has_role(region, one.store_id, one.peer_id, Role.LEARNER, Role.DEMOTING_VOTER)
            for one in self.demotes
        )
        return len(self.promotes) + len(self.demotes) if promoted and demoted else 0

    def problem(self, view: ClusterView, region: RegionView) -> str:
        """Why it cannot go on."""
        return _joint_problem(region, self.promotes, self.demotes, leaving=False)

    def influence(self, influence: Influence, region: RegionView) -> None:
        """Nothing moves."""

    def timeout_s(self, size_bytes: int) -> float:
        """No data moves."""
        return fast_step_s(size_bytes) * (len(self.promotes) + len(self.demotes) + 1)


@dataclass(frozen=True, slots=True)
class ChangePeerV2Leave:
    """Leave the joint state."""

    promotes: tuple[PromoteLearner, ...]
    demotes: tuple[DemoteVoter, ...]

    def __str__(self) -> str:
        return _joint_text("leave joint state", self.promotes, self.demotes)

    def is_finished(self, region: RegionView) -> bool:
        """All have their new roles and no replica is between two."""
        changes: list[PromoteLearner | DemoteVoter] = [*self.promotes, *self.demotes]
        return not region.is_joint and all(step.is_finished(region) for step in changes)

    def conf_ver_changed(self, region: RegionView) -> int:
        """Each change counts one, and all come together."""
        changes: list[PromoteLearner | DemoteVoter] = [*self.promotes, *self.demotes]
        return len(changes) if all(step.conf_ver_changed(region) for step in changes) else 0

    def problem(self, view: ClusterView, region: RegionView) -> str:
        """Why it cannot go on."""
        return _joint_problem(region, self.promotes, self.demotes, leaving=True)

    def influence(self, influence: Influence, region: RegionView) -> None:
        """Nothing moves."""

    def timeout_s(self, size_bytes: int) -> float:
        """No data moves."""
        return fast_step_s(size_bytes) * (len(self.promotes) + len(self.demotes) + 1)


def _has_role(region: RegionView, store_id: int, peer_id: int, *roles: Role) -> bool:
    peer: PeerView | None = region.on_store(store_id)
    return peer is not None and peer.peer_id == peer_id and peer.role in roles
