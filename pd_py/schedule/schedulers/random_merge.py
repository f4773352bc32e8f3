"""Random-merge: merge neighbours that may be merged, whatever their size, to try out merging."""

from __future__ import annotations

from pd_py.schedule.checkers.merge import may_merge
from pd_py.schedule.context import Context
from pd_py.schedule.create import merge_regions
from pd_py.schedule.filters import is_healthy, is_movable, is_replicated, leader_source, select
from pd_py.schedule.operator import Operator, OpKind
from pd_py.schedule.schedulers.base import Scheduler, attempt, below, draw
from pd_py.schedule.view import PeerKind, RegionView


class RandomMerge(Scheduler):
    """The scheduler."""

    type = "random-merge-scheduler"

    def is_allowed(self, context: Context) -> bool:
        """Fewer merges run than may."""
        return below(context, OpKind.MERGE, context.options.merge_schedule_limit)

    def schedule(self, context: Context) -> list[Operator]:
        """One merge."""
        stores = select(context.stores.values(), leader_source(context))
        if not stores:
            return []
        source = stores[context.rng.randrange(0, len(stores))]

        def is_whole(region: RegionView) -> bool:
            return is_healthy(region) and is_movable(context, region) and is_replicated(context, region)

        region = draw(context, source.store_id, PeerKind.LEADER, is_whole)
        if region is None:
            return []
        left, right = context.view.neighbours(region)
        choice = [one for one in (left, right) if one is not None and is_whole(one) and may_merge(context, region, one)]
        if not choice:
            return []
        target = choice[context.rng.randrange(0, len(choice))]
        pair = attempt(merge_regions, context, "random-merge", region, target, OpKind.MERGE)
        return [] if pair is None else list(pair)
