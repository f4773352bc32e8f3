"""Learner checker, without placement rules: a learner that has caught up is promoted, for nothing wants learners to stay."""

from __future__ import annotations

from pd_py.schedule.builder import CannotBuild
from pd_py.schedule.context import Context
from pd_py.schedule.create import promote_learner
from pd_py.schedule.operator import Operator
from pd_py.schedule.view import RegionView, Role


def check(context: Context, region: RegionView) -> Operator | None:
    """The operator the region needs, or None."""
    for peer in region.peers:
        if peer.role is Role.LEARNER and peer.peer_id not in region.pending and peer.peer_id not in region.down:
            try:
                return promote_learner(context, "promote-learner", region, peer.store_id)
            except CannotBuild:
                continue
    return None
