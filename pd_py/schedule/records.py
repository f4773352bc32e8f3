"""What became of operators: a bounded history of ends, newest last, and the last end of each region for a while.

Kept for the API (`operators/records`, `operators history`), for clients that wait for a scattered region, and for whoever asks why.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from pd_py.schedule.operator import AddLearner, AddPeer, Operator, OperatorStatus, RemovePeer, TransferLeader

HISTORY_MAX = 1024
LAST_MAX = 16_384
KEEP_S = 600.0


@dataclass(frozen=True, slots=True)
class Finished:
    """An operator's end; times are seconds of the controller's clock."""

    operator: Operator
    status: OperatorStatus
    at: float
    started_at: float = 0.0
    reason: str = ""

    @property
    def duration_s(self) -> float:
        """How long it ran."""
        return self.at - self.started_at


@dataclass(frozen=True, slots=True)
class Movement:
    """A leader or replica that went from one store to another."""

    at: float
    from_store: int
    to_store: int
    kind: str
    """"leader" or "region"."""


class Records:
    """Ends of operators."""

    def __init__(self) -> None:
        self.history: deque[Finished] = deque(maxlen=HISTORY_MAX)
        self._last: OrderedDict[int, Finished] = OrderedDict()

    def add(self, finished: Finished) -> None:
        """Note an end."""
        self.history.append(finished)
        region_id = finished.operator.region_id
        self._last.pop(region_id, None)
        self._last[region_id] = finished
        while len(self._last) > LAST_MAX or self._oldest_at() < finished.at - KEEP_S:
            self._last.popitem(last=False)

    def _oldest_at(self) -> float:
        return next(iter(self._last.values())).at

    def last_of(self, region_id: int) -> Finished | None:
        """The newest end of a region's operators, of the last ten minutes or so."""
        return self._last.get(region_id)

    def since(self, at: float) -> list[Finished]:
        """All ends not before a moment, oldest first."""
        return [one for one in self.history if one.at >= at]

    def movements(self, at: float) -> list[Movement]:
        """What successful operators moved since a moment."""
        return [move for one in self.since(at) if one.status is OperatorStatus.SUCCESS for move in _movements(one)]


def _movements(finished: Finished) -> list[Movement]:
    out: list[Movement] = []
    added: list[int] = []
    removed: list[int] = []
    for step in finished.operator.steps:
        if isinstance(step, TransferLeader):
            out.append(Movement(finished.at, step.from_store_id, step.to_store_id, "leader"))
        elif isinstance(step, AddPeer | AddLearner):
            added.append(step.store_id)
        elif isinstance(step, RemovePeer):
            removed.append(step.store_id)
    out += [Movement(finished.at, source, target, "region") for source, target in zip(removed, added, strict=False)]
    return out
