"""Split checker: regions end where placement rules and label rules begin or end, so that one region has one set of them."""

from __future__ import annotations

from pd_py.schedule.builder import CannotBuild
from pd_py.schedule.context import Context
from pd_py.schedule.create import split_region
from pd_py.schedule.operator import Operator, OpKind, SplitPolicy
from pd_py.schedule.view import RegionView

KEYS_MAX = 256  # of one split; the rest follows when its parts are checked


def check(context: Context, region: RegionView) -> Operator | None:
    """The operator the region needs, or None."""
    if not region.leader_store_id or region.is_joint:
        return None
    description = "labeler-split-region"
    keys = context.labels.split_keys(region.start_key, region.end_key)
    if not keys and context.options.enable_placement_rules:
        description = "rule-split-region"
        keys = context.rules.split_keys(region.start_key, region.end_key)
    if not keys:
        return None
    try:
        return split_region(description, region, OpKind.NONE, SplitPolicy.USEKEY, tuple(keys[:KEYS_MAX]))
    except CannotBuild:
        return None
