"""What clients did and saw, one record per operation, and what a checker says of it.

A record is written when an operation ends, as one JSON line. Three outcomes: `ok` (acknowledged), `fail` (certainly
without effect) and `info` (unknown: it may take effect at any later time, or never). Times are seconds of the system's
monotonic clock, which all processes of one machine share. `start_ts` is the timestamp at which an operation read,
`commit_ts` that of its commit; 0 means that there is none, or that it is not known.

`value` is what the kind of operation needs, in JSON types only; each checker says what it expects.
"""

from __future__ import annotations

import enum
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


class Outcome(enum.Enum):
    """What the client knows."""

    OK = "ok"
    FAIL = "fail"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client."""

    process: int
    kind: str
    called: float
    returned: float
    outcome: Outcome
    value: Any = None
    start_ts: int = 0
    commit_ts: int = 0
    mode: str = ""
    """How the transaction was run: `pessimistic`, `async commit` and the like."""
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether it was acknowledged."""
        return self.outcome is Outcome.OK

    def to_line(self) -> str:
        """One line of JSON."""
        return json.dumps({**asdict(self), "outcome": self.outcome.value}, separators=(",", ":"))

    def __str__(self) -> str:
        end = "?" if self.outcome is Outcome.INFO else f"{self.returned:.3f}"
        stamps = f" ts {self.start_ts}..{self.commit_ts or '-'}" if self.start_ts else ""
        name = f"{self.mode} {self.kind}".strip()
        text = json.dumps(self.value)
        shown = text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-SHOWN // 2 :]}"
        return f"[{self.called:.3f} .. {end}] process {self.process} {name} {self.outcome.value}{stamps}: {shown}"


SHOWN = 240


def read_history(lines: Iterable[str]) -> list[Operation]:
    """The records of a file, in its order. Raises ValueError for a line that is none."""
    return [
        Operation(**{**record, "outcome": Outcome(record["outcome"])})
        for record in (json.loads(line) for line in lines if line.strip())
    ]


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something that must not be in a history: its name in the field, and the smallest story that shows it."""

    name: str
    story: str

    def __str__(self) -> str:
        return f"{self.name}: {self.story}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a checker found."""

    anomalies: tuple[Anomaly, ...]
    notes: tuple[str, ...] = ()
    """What is allowed but worth knowing."""

    @property
    def valid(self) -> bool:
        """Whether there is nothing to object to."""
        return not self.anomalies

    def names(self) -> set[str]:
        """The names of what was found."""
        return {anomaly.name for anomaly in self.anomalies}

    def __str__(self) -> str:
        head = "valid" if self.valid else f"{len(self.anomalies)} anomalies"
        return "\n".join(
            [head, *(f"- {anomaly}" for anomaly in self.anomalies), *(f"  ({note})" for note in self.notes)]
        )


STORIES_MAX = 4
"""So many anomalies of one name are told; the others are the same story again."""


def verdict_of(anomalies: Iterable[Anomaly], notes: Iterable[str] = ()) -> Verdict:
    """A verdict with a few stories for each name."""
    told: Counter[str] = Counter()
    kept = []
    for anomaly in anomalies:
        told[anomaly.name] += 1
        if told[anomaly.name] <= STORIES_MAX:
            kept.append(anomaly)
    more = (f"{count} times {name}" for name, count in told.items() if count > STORIES_MAX)
    return Verdict(tuple(kept), (*more, *notes))


def indent(lines: Sequence[object]) -> str:
    """Lines below a heading."""
    return "".join(f"\n    {line}" for line in lines)
