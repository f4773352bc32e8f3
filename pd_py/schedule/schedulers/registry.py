"""Which schedulers there are, by type name, and which run from the first start on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core_py.errors import PdError, RetryClass
from pd_py.schedule.schedulers.balance_leader import BalanceLeader
from pd_py.schedule.schedulers.base import Scheduler

TYPES: dict[str, type[Scheduler]] = {kind.type: kind for kind in (BalanceLeader,)}
DEFAULTS = (BalanceLeader.type,)


class SchedulerUnknown(PdError):
    """There is no scheduler of this type."""

    code = "PD:scheduler:ErrSchedulerCreateFuncNotRegistered"
    retry = RetryClass.NEVER

    def __init__(self) -> None:
        super().__init__("create func is not registered")


def full_type(name: str) -> str:
    """A type's full name; the short one without its ending will do."""
    return name if name in TYPES else f"{name}-scheduler"


def make_scheduler(type_name: str, config: Mapping[str, Any]) -> Scheduler:
    """A scheduler of a type with its configuration. Raises SchedulerUnknown, SchedulerConfigError."""
    kind = TYPES.get(full_type(type_name))
    if kind is None:
        raise SchedulerUnknown
    scheduler = kind()
    if config:
        scheduler.configure(config)
    return scheduler
