"""Joint-state checker: a region that nothing leads out of its joint state is led out. It goes first: nothing else works there."""

from __future__ import annotations

from pd_py.schedule.builder import CannotBuild
from pd_py.schedule.context import Context
from pd_py.schedule.create import leave_joint_state
from pd_py.schedule.operator import Operator
from pd_py.schedule.view import RegionView


def check(context: Context, region: RegionView) -> Operator | None:
    """The operator the region needs, or None."""
    if not region.is_joint or not region.leader_store_id:
        return None
    try:
        return leave_joint_state(context, region)
    except CannotBuild:
        return None
