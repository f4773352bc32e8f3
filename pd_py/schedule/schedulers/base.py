"""What a scheduler is: a rule over the whole cluster that is asked again and again for operators.

Schedulers are known by name (usually their type). Their configuration is a JSON object, stored by the coordinator; a change goes
through `configure`, which returns what to store or refuses. They keep no state that must survive a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, ParamSpec, TypeVar

from core_py.errors import PdError, RetryClass
from pd_py.schedule.builder import CannotBuild
from pd_py.schedule.context import Context
from pd_py.schedule.operator import Operator, OpKind
from pd_py.schedule.view import WHOLE_RANGE, KeyRange, PeerKind, RegionView

P = ParamSpec("P")
T = TypeVar("T")

MIN_INTERVAL_S = 0.01
MAX_INTERVAL_S = 5.0


class SchedulerConfigError(PdError):
    """A configuration that a scheduler cannot take."""

    code = "PD:scheduler:ErrSchedulerConfig"
    retry = RetryClass.NEVER

    def __init__(self, what: str) -> None:
        super().__init__(f"wrong scheduler config {what}")


class Scheduler:
    """Base of all schedulers."""

    type: ClassVar[str] = ""
    min_interval_s: ClassVar[float] = MIN_INTERVAL_S
    max_interval_s: ClassVar[float] = MAX_INTERVAL_S

    @property
    def name(self) -> str:
        """What it is known by."""
        return self.type

    def is_allowed(self, context: Context) -> bool:
        """Whether it may add operators now, by how many of its kind run."""
        return True

    def schedule(self, context: Context) -> list[Operator]:
        """The operators it wants now."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Its configuration, for the API and for storing."""
        return {}

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change its configuration. Raises SchedulerConfigError, and then changes nothing."""
        if changes:
            raise SchedulerConfigError(f"{self.type} has nothing to configure")

    def stores_without_new_leaders(self) -> Iterable[int]:
        """Stores to which it lets no leaders move."""
        return ()

    def stores_that_keep_leaders(self) -> Iterable[int]:
        """Stores from which it lets no leaders move."""
        return ()


def below(context: Context, kind: OpKind, limit: int) -> bool:
    """Whether fewer operators of a kind run than may."""
    return context.running(kind) < limit


def draw(
    context: Context,
    store_id: int,
    kind: PeerKind,
    accepts: Callable[[RegionView], bool],
    *,
    ranges: Sequence[KeyRange] = WHOLE_RANGE,
    tries: int = 8,
) -> RegionView | None:
    """A random region that a store holds in a way and that is accepted; None after some that were not."""
    found = context.view.random_regions(store_id, kind, ranges, tries, context.rng)
    return next((region for region in found if accepts(region)), None)


def attempt(make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """What is made, or None when it cannot be built."""
    try:
        return make(*args, **kwargs)
    except CannotBuild:
        return None


def store_ids_of(value: Any, name: str) -> list[int]:
    """Store ids out of a configuration: a number or a list. Raises SchedulerConfigError."""
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(one, bool) or not isinstance(one, int) or one <= 0 for one in values):
        raise SchedulerConfigError(f"{name} should be store ids")
    return [int(one) for one in values]


def ranges_of(value: Any) -> tuple[KeyRange, ...]:
    """Key ranges out of a configuration: [{"start-key": hex, "end-key": hex}]. Raises SchedulerConfigError."""
    if not value:
        return WHOLE_RANGE
    try:
        out = tuple(KeyRange(bytes.fromhex(one["start-key"]), bytes.fromhex(one["end-key"])) for one in value)
    except (TypeError, KeyError, ValueError) as error:
        raise SchedulerConfigError("ranges should have start-key and end-key in hex") from error
    if any(one.end and one.end <= one.start for one in out):
        raise SchedulerConfigError("end-key should be greater than start-key")
    return out


def ranges_json(ranges: Iterable[KeyRange]) -> list[dict[str, str]]:
    """Key ranges for a configuration."""
    return [{"start-key": one.start.hex(), "end-key": one.end.hex()} for one in ranges]
