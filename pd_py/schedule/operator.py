"""Operators: a named list of steps that brings one region from one shape to another.

An operator is a decision, made at one epoch of a region and never changed; how far it has come is the controller's to know. Its
kind says who wanted it and what it does, its priority which of two may stay when both want one region. Names and texts are the
public ones. The two operators of a merge name each other's region.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from pd_py.schedule.influence import Influence
from pd_py.schedule.range_steps import MergeRegion, SplitPolicy, SplitRegion
from pd_py.schedule.steps import (
    AddLearner,
    AddPeer,
    ChangePeerV2Enter,
    ChangePeerV2Leave,
    DemoteVoter,
    PromoteLearner,
    RemovePeer,
    TransferLeader,
)
from pd_py.schedule.view import RegionView

Step = (
    AddLearner
    | AddPeer
    | PromoteLearner
    | DemoteVoter
    | ChangePeerV2Enter
    | ChangePeerV2Leave
    | TransferLeader
    | RemovePeer
    | MergeRegion
    | SplitRegion
)

__all__ = [
    "AddLearner",
    "AddPeer",
    "ChangePeerV2Enter",
    "ChangePeerV2Leave",
    "DemoteVoter",
    "MergeRegion",
    "OpKind",
    "Operator",
    "OperatorStatus",
    "Priority",
    "PromoteLearner",
    "RemovePeer",
    "SplitPolicy",
    "SplitRegion",
    "Step",
    "TransferLeader",
    "kind_of_name",
    "related_pair",
]


class OpKind(enum.IntFlag):
    """What an operator is. The lowest flag set is the one it is counted under, so wanters come before effects."""

    NONE = 0
    ADMIN = 1 << 0
    MERGE = 1 << 2
    RANGE = 1 << 3
    REPLICA = 1 << 4
    SPLIT = 1 << 5
    HOT_REGION = 1 << 6
    REGION = 1 << 7
    LEADER = 1 << 8


KIND_NAMES = {
    OpKind.LEADER: "leader",
    OpKind.REGION: "region",
    OpKind.SPLIT: "split",
    OpKind.ADMIN: "admin",
    OpKind.HOT_REGION: "hot-region",
    OpKind.REPLICA: "replica",
    OpKind.MERGE: "merge",
    OpKind.RANGE: "range",
}


def kind_of_name(name: str) -> OpKind | None:
    """The flag of a public name; None for an unknown one."""
    return next((kind for kind, known in KIND_NAMES.items() if known == name), None)


class Priority(enum.IntEnum):
    """Of two operators for one region, a higher one takes the place of a lower one."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2
    URGENT = 3


class OperatorStatus(enum.Enum):
    """How an operator stands, under the names of pdpb where it has one (an expired one is TIMEOUT there)."""

    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    TIMEOUT = "TIMEOUT"
    CANCEL = "CANCEL"
    REPLACE = "REPLACE"
    EXPIRED = "EXPIRED"

    @property
    def pdpb_name(self) -> str:
        """The name in pdpb.OperatorStatus."""
        return "TIMEOUT" if self is OperatorStatus.EXPIRED else self.value


@dataclass(frozen=True, slots=True)
class Operator:
    """What to do with one region, decided at an epoch."""

    description: str
    region_id: int
    conf_ver: int
    version: int
    steps: tuple[Step, ...]
    kind: OpKind = OpKind.NONE
    brief: str = ""
    size_bytes: int = 0
    priority: Priority = Priority.MEDIUM
    related_region_id: int = 0
    """The other region of a merge; 0 otherwise."""
    details: tuple[tuple[str, str], ...] = field(default=())
    """What the decision was based on, for those who look."""

    @property
    def scheduler_kind(self) -> OpKind:
        """The kind it is counted under."""
        return OpKind(self.kind & -self.kind)

    @property
    def kind_text(self) -> str:
        """Its flags by name."""
        names = [name for kind, name in KIND_NAMES.items() if self.kind & kind]
        return ",".join(names) or "unknown"

    @property
    def timeout_s(self) -> float:
        """How long all steps together may take."""
        return sum(step.timeout_s(self.size_bytes) for step in self.steps)

    def influence(self, region: RegionView) -> Influence:
        """What it does to the stores, from begin to end."""
        return self.influence_after(region, 0)

    def influence_after(self, region: RegionView, done: int) -> Influence:
        """What the steps after the first `done` ones do to the stores, as far as they have not been done."""
        influence = Influence()
        for step in self.steps[done:]:
            if not step.is_finished(region):
                step.influence(influence, region)
        return influence

    def conf_ver_changed(self, region: RegionView, current: int) -> int:
        """How far the steps up to the current one have moved conf_ver; the current one may have had its effect."""
        return sum(step.conf_ver_changed(region) for step in self.steps[: current + 1])

    def with_priority(self, priority: Priority) -> Operator:
        """The same at another priority."""
        return replace(self, priority=priority)

    def __str__(self) -> str:
        steps = ", ".join(f"{at}:{{{step}}}" for at, step in enumerate(self.steps))
        return (
            f"{self.description} {{{self.brief}}} (kind:{self.kind_text}, region:{self.region_id}({self.version}, {self.conf_ver}),"
            f" size:{self.size_bytes >> 20}, steps:[{steps}], timeout:[{self.timeout_s:g}s])"
        )


def related_pair(operators: tuple[Operator, ...] | list[Operator]) -> bool:
    """Whether these are the two operators of one merge."""
    return len(operators) == 2 and operators[0].related_region_id == operators[1].region_id != 0
