"""A request's deadline: `max_execution_duration_ms` of its context, counted from its arrival.

The client gives up by then, so work that begins later is wasted. It is looked at where a request comes out of a queue and
nothing is done yet; the answer is ServerIsBusy, "deadline is exceeded", as the public servers say it. A write that is
proposed is never given up.
"""

from __future__ import annotations

from core_py.ports import Clock
from core_py.region_errors import ServerIsBusy
from protos.kvproto import kvrpcpb_pb2


class Deadline:
    """Starts when it is made."""

    __slots__ = ("_clock", "_until")

    def __init__(self, context: kvrpcpb_pb2.Context, clock: Clock) -> None:
        allowed_ms = context.max_execution_duration_ms
        self._clock = clock
        self._until = clock.monotonic() + allowed_ms / 1000 if allowed_ms else 0.0

    def check(self) -> None:
        """Raise ServerIsBusy when the time is up."""
        if self._until and self._clock.monotonic() >= self._until:
            raise ServerIsBusy("deadline is exceeded")
