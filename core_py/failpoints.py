"""Failpoints: named places in a server where a test or an operator can make something go wrong.

One object per server, given by constructor, so that two stores in one process fail independently. A place costs one attribute read
while nothing is armed:

    if fail.armed and fail.hit("raft_message_drop") is not None:    # anywhere, also in worker threads
        return
    if fail.armed:
        await fail.reach("scheduler_before_latch")                  # where the code may wait

Actions are written as for the `fail` crate, so `tikv-ctl fail inject` habits work: `[p%][cnt*]type[(arg)]`, several joined by `->`.
The first action of the chain whose probability and count allow it is done, and only that one; `25%return->3*delay(10)` returns in a
quarter of the cases and else delays, three times in all.

    off             nothing, and nothing behind it in the chain either
    return[(arg)]   the place gets `arg` ("" without one) and does what the catalogue says about it
    sleep(ms)       blocks the thread: on the loop the whole server stalls, which is the point of it
    delay(ms)       waits; the loop goes on. Where the code cannot wait it blocks, like `sleep`
    pause           waits until the point is configured anew or removed; refused where the code cannot wait
    yield           lets other tasks (threads) go first
    print[(text)]   writes to the log
    panic[(text)]   raises `FailPointPanic`, a broken invariant: the process stops

Names come from a closed catalogue, so a misspelt point is an error and not a test that tests nothing. Invariants: `armed` is true
exactly while some point is configured; randomness is drawn only for actions with a probability, so an unarmed server draws none.
"""

from __future__ import annotations

import asyncio
import difflib
import enum
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from core_py.errors import DbError, InvariantViolation
from core_py.ports import Random
from core_py.runtime.log import get_logger

_ACTION = re.compile(
    r"(?:(?P<percent>\d+(?:\.\d+)?)%)?(?:(?P<count>\d+)\*)?(?P<kind>[a-z]+)(?:\((?P<argument>.*)\))?", re.DOTALL
)


class FailPointPanic(InvariantViolation):
    """A point was told to panic."""


class UnknownFailPoint(DbError):
    """No point has this name."""

    code = "Core:FailPoint:Unknown"


class InvalidFailPointAction(DbError):
    """The text of a point's actions does not follow the grammar, or asks for what the place cannot do."""

    code = "Core:FailPoint:InvalidAction"


class Kind(enum.Enum):
    """The types of actions."""

    OFF = "off"
    RETURN = "return"
    SLEEP = "sleep"
    PANIC = "panic"
    PRINT = "print"
    PAUSE = "pause"
    YIELD = "yield"
    DELAY = "delay"


_TIMED = (Kind.SLEEP, Kind.DELAY)
_WITH_TEXT = (Kind.RETURN, Kind.PANIC, Kind.PRINT)


@dataclass(frozen=True, slots=True)
class Point:
    """A catalogue entry: where the point fires and what `return` does there; `waits` if the place calls `reach`."""

    where: str
    waits: bool


def instant(where: str) -> Point:
    """A place that calls `hit`: it cannot wait."""
    return Point(where, waits=False)


def waiting(where: str) -> Point:
    """A place that awaits `reach`."""
    return Point(where, waits=True)


@dataclass(slots=True)
class Action:
    """One action of a chain. `left` counts down; None is without end."""

    kind: Kind
    argument: str = ""
    probability: float = 1.0
    left: int | None = None

    @property
    def seconds(self) -> float:
        """How long a `sleep` or `delay` takes."""
        return int(self.argument) / 1000


@dataclass(slots=True)
class _Armed:
    text: str
    actions: tuple[Action, ...]
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the point is configured anew or removed: what ends a pause."""


def parse_actions(text: str) -> tuple[Action, ...]:
    """A chain of actions from its text. Raises InvalidFailPointAction."""
    return tuple(_parse_action(part.strip()) for part in text.split("->"))


def _parse_action(text: str) -> Action:
    match = _ACTION.fullmatch(text)
    if match is None:
        raise InvalidFailPointAction(f"{text!r} is not of the form [p%][cnt*]type[(arg)]")
    try:
        kind = Kind(match["kind"])
    except ValueError:
        kinds = ", ".join(kind.value for kind in Kind)
        raise InvalidFailPointAction(f"{match['kind']!r} in {text!r} is none of {kinds}") from None
    argument: str | None = match["argument"]
    if kind in _TIMED and (argument is None or not argument.isdecimal()):
        raise InvalidFailPointAction(f"{kind.value} wants milliseconds: {kind.value}(100), not {text!r}")
    if argument is not None and kind not in _TIMED and kind not in _WITH_TEXT:
        raise InvalidFailPointAction(f"{kind.value} takes no argument: {text!r}")
    percent = float(match["percent"] or 100)
    if percent > 100:
        raise InvalidFailPointAction(f"a probability of {match['percent']} % in {text!r}")
    return Action(kind, argument or "", percent / 100, None if match["count"] is None else int(match["count"]))


class FailPoints:
    """The points of one server. `block` blocks the calling thread for seconds; without it nothing can be put to sleep."""

    def __init__(
        self, catalogue: Mapping[str, Point], *, rng: Random, block: Callable[[float], None] | None = None
    ) -> None:
        self.catalogue = catalogue
        self.armed = False
        self._rng = rng
        self._block = block
        self._points: dict[str, _Armed] = {}

    def configure(self, name: str, actions: str) -> None:
        """Set the actions of a point, in place of those it had. Raises UnknownFailPoint, InvalidFailPointAction."""
        point = self._known(name)
        parsed = parse_actions(actions)
        for action in parsed:
            if action.kind is Kind.PAUSE and not point.waits:
                raise InvalidFailPointAction(f"{name} fires where the code cannot wait: pause would never end")
            blocks = action.kind is Kind.SLEEP or (action.kind is Kind.DELAY and not point.waits)
            if blocks and self._block is None:
                raise InvalidFailPointAction(f"{action.kind.value} at {name} would block a thread, which is off here")
        self._disarm(name)
        self._points[name] = _Armed(actions, parsed)
        self.armed = True

    def configure_all(self, text: str) -> None:
        """`name=actions;name=actions`, as in the environment variable FAILPOINTS. Raises like `configure`."""
        for part in filter(None, (part.strip() for part in text.split(";"))):
            name, equals, actions = part.partition("=")
            if not equals:
                raise InvalidFailPointAction(f"{part!r} is not of the form name=actions")
            self.configure(name.strip(), actions)

    def remove(self, name: str) -> None:
        """Disarm a point; also one that is not armed. Raises UnknownFailPoint."""
        self._known(name)
        self._disarm(name)

    def list(self) -> tuple[tuple[str, str], ...]:
        """(name, actions) of the armed points, by name."""
        return tuple(sorted((name, armed.text) for name, armed in self._points.items()))

    def hit(self, name: str) -> str | None:
        """Pass a point where the code cannot wait: the argument of `return`, or None to go on. Raises FailPointPanic."""
        action = self._due(name)
        if action is None:
            return None
        if action.kind in _TIMED:
            self._stall(action.seconds)
        elif action.kind is Kind.YIELD and self._block is not None:
            self._stall(0)
        return self._done(name, action)

    async def reach(self, name: str) -> str | None:
        """Pass a point where the code may wait: the argument of `return`, or None to go on. Raises FailPointPanic."""
        action = self._due(name)
        if action is None:
            return None
        if action.kind is Kind.PAUSE:
            await self._points[name].changed.wait()
        elif action.kind is Kind.DELAY:
            await asyncio.sleep(action.seconds)
        elif action.kind is Kind.YIELD:
            await asyncio.sleep(0)
        elif action.kind is Kind.SLEEP:
            self._stall(action.seconds)
        return self._done(name, action)

    def _known(self, name: str) -> Point:
        point = self.catalogue.get(name)
        if point is None:
            near = difflib.get_close_matches(name, self.catalogue, 3, 0.5)
            hint = f"; near: {', '.join(near)}" if near else ""
            raise UnknownFailPoint(f"there is no failpoint {name!r}{hint}")
        return point

    def _disarm(self, name: str) -> None:
        armed = self._points.pop(name, None)
        if armed is not None:
            armed.changed.set()
        self.armed = bool(self._points)

    def _due(self, name: str) -> Action | None:
        """The action to do now, counted."""
        armed = self._points.get(name)
        if armed is None:
            return None
        for action in armed.actions:
            if action.left == 0 or (action.probability < 1 and self._rng.random() >= action.probability):
                continue
            if action.left is not None:
                action.left -= 1
            return action
        return None

    def _stall(self, seconds: float) -> None:
        if self._block is not None:
            self._block(seconds)

    def _done(self, name: str, action: Action) -> str | None:
        if action.kind is Kind.PANIC:
            raise FailPointPanic(f"failpoint {name}: {action.argument or 'panic'}")
        if action.kind is Kind.PRINT:
            get_logger().info("failpoint", point=name, text=action.argument)
        return action.argument if action.kind is Kind.RETURN else None


UNARMED = FailPoints({}, rng=random.Random(0))
"""For parts that are used without a server around them: its catalogue is empty, so it cannot be armed."""
