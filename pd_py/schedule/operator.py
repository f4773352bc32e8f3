"""Operators: a named list of steps that brings one region from one shape to another.

A step knows when it is finished, from the region's next heartbeat, and what to tell the leader to get there. An operator belongs
to an epoch: when the region changes in a way that its steps did not cause, the operator is cancelled.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pd_py.schedule.view import RegionView, Role


class OperatorStatus(enum.Enum):
    """pdpb.OperatorStatus, by name."""

    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    TIMEOUT = "TIMEOUT"
    CANCEL = "CANCEL"
    REPLACE = "REPLACE"


@dataclass(frozen=True, slots=True)
class AddLearner:
    """Put a new replica on a store, without a vote at first."""

    store_id: int
    peer_id: int

    def is_finished(self, region: RegionView) -> bool:
        """The replica is there and has caught up."""
        peer = region.on_store(self.store_id)
        return peer is not None and peer.peer_id == self.peer_id and peer.peer_id not in region.pending

    def conf_ver_changed(self, region: RegionView) -> int:
        """How much this step has moved conf_ver."""
        peer = region.on_store(self.store_id)
        return int(peer is not None and peer.peer_id == self.peer_id)


@dataclass(frozen=True, slots=True)
class PromoteLearner:
    """Give a replica its vote."""

    store_id: int
    peer_id: int

    def is_finished(self, region: RegionView) -> bool:
        """The replica votes."""
        peer = region.on_store(self.store_id)
        return peer is not None and peer.peer_id == self.peer_id and peer.role is Role.VOTER

    def conf_ver_changed(self, region: RegionView) -> int:
        """How much this step has moved conf_ver."""
        return int(self.is_finished(region))


@dataclass(frozen=True, slots=True)
class TransferLeader:
    """Let another replica lead."""

    from_store_id: int
    to_store_id: int

    def is_finished(self, region: RegionView) -> bool:
        """It leads."""
        return region.leader_store_id == self.to_store_id

    def conf_ver_changed(self, region: RegionView) -> int:
        """Leadership is not part of the epoch."""
        return 0


@dataclass(frozen=True, slots=True)
class RemovePeer:
    """Take a replica away."""

    store_id: int
    peer_id: int

    def is_finished(self, region: RegionView) -> bool:
        """It is gone."""
        return region.on_store(self.store_id) is None

    def conf_ver_changed(self, region: RegionView) -> int:
        """How much this step has moved conf_ver."""
        return int(self.is_finished(region))


Step = AddLearner | PromoteLearner | TransferLeader | RemovePeer


@dataclass(frozen=True, slots=True)
class Operator:
    """What to do with one region, decided at an epoch."""

    description: str
    region_id: int
    conf_ver: int
    version: int
    steps: tuple[Step, ...]

    def current_step(self, region: RegionView) -> Step | None:
        """The first step that is not finished; None when all are."""
        return next((step for step in self.steps if not step.is_finished(region)), None)

    def is_outdated(self, region: RegionView) -> bool:
        """Whether the region changed by something else than the steps."""
        if region.version != self.version:
            return True
        expected = self.conf_ver + sum(step.conf_ver_changed(region) for step in self.steps)
        return region.conf_ver > expected
