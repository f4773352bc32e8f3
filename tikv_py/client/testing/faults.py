"""What a test can do to the commands of a memory cluster: answer errors, lose requests or answers, delay, cut the stream.

A hook sees (store, method, request) before a command runs, or after it took effect, and says what happens instead:
None = nothing special, a `RegionError` = that is the answer, `Delay` = run it later, `LOST` = never answer; raising
`BreakStream` (or any `StatusError`) ends the connection's stream with all that is on its way. After the command only the
last two make sense.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core_py.ports import StatusError
from core_py.region_errors import RegionError

if TYPE_CHECKING:
    from tikv_py.client.testing.store import MemoryStore


class BreakStream(StatusError):
    """Ends the connection's stream."""

    code = "KV:Client:BreakStream"

    def __init__(self) -> None:
        super().__init__("UNAVAILABLE", "connection reset")


@dataclass(frozen=True, slots=True)
class Delay:
    """The command runs so much later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Lost:
    """The command is never answered: the caller's time-out ends the wait."""


LOST = Lost()
Outcome = RegionError | Delay | Lost
Hook = Callable[["MemoryStore", str, Any], Outcome | None]


def once(name: str, outcome: Outcome | BaseException | None = None, times: int = 1, *, after: int = 0) -> Hook:
    """A hook for `times` calls of a method, the first `after` calls excepted; an exception is raised (default `BreakStream`)."""
    seen = 0

    def hook(_store: MemoryStore, method: str, _request: Any) -> Outcome | None:
        nonlocal seen
        if method != name:
            return None
        seen += 1
        if not after < seen <= after + times:
            return None
        if outcome is None or (isinstance(outcome, BaseException) and not isinstance(outcome, RegionError)):
            raise outcome or BreakStream()
        return outcome

    return hook
