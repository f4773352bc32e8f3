"""Which schedulers there are, by type name, and which run from the first start on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core_py.errors import PdError, RetryClass
from pd_py.schedule.schedulers.balance_hot_region import BalanceHotRegion
from pd_py.schedule.schedulers.balance_leader import BalanceLeader
from pd_py.schedule.schedulers.balance_region import BalanceRegion
from pd_py.schedule.schedulers.base import Scheduler
from pd_py.schedule.schedulers.evict_leader import EvictLeader
from pd_py.schedule.schedulers.evict_slow_store import EvictSlowStore
from pd_py.schedule.schedulers.grant_leader import GrantLeader
from pd_py.schedule.schedulers.label import LabelScheduler
from pd_py.schedule.schedulers.random_merge import RandomMerge
from pd_py.schedule.schedulers.scatter_range import ScatterRange
from pd_py.schedule.schedulers.shuffle import ShuffleLeader, ShuffleRegion

TYPES: dict[str, type[Scheduler]] = {
    kind.type: kind
    for kind in (
        BalanceLeader,
        BalanceRegion,
        BalanceHotRegion,
        EvictLeader,
        EvictSlowStore,
        GrantLeader,
        LabelScheduler,
        RandomMerge,
        ScatterRange,
        ShuffleLeader,
        ShuffleRegion,
    )
}
ALIASES = {"hot-region": BalanceHotRegion.type, "balance-hot-region": BalanceHotRegion.type}
DEFAULTS = (BalanceRegion.type, BalanceLeader.type, BalanceHotRegion.type, EvictSlowStore.type)


class SchedulerUnknown(PdError):
    """There is no scheduler of this type."""

    code = "PD:scheduler:ErrSchedulerCreateFuncNotRegistered"
    retry = RetryClass.NEVER

    def __init__(self) -> None:
        super().__init__("create func is not registered")


def full_type(name: str) -> str:
    """A type's full name; the short one without its ending will do."""
    if name in TYPES:
        return name
    return ALIASES.get(name, f"{name}-scheduler")


def make_scheduler(type_name: str, config: Mapping[str, Any]) -> Scheduler:
    """A scheduler of a type with its configuration. Raises SchedulerUnknown, SchedulerConfigError."""
    kind = TYPES.get(full_type(type_name))
    if kind is None:
        raise SchedulerUnknown
    scheduler = kind()
    if config:
        scheduler.configure(config)
    return scheduler
