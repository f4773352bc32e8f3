"""Labels of regions: rules that give key ranges labels, with a time to live, and what the labels forbid.

`schedule=deny` keeps schedulers off a region (repair goes on), `merge_option=deny` keeps it from being merged. Of two rules that
set one label, that with the higher index wins. Changes are planned and committed like those of placement rules. JSON shapes and
messages are the public ones; durations are in Go's notation. Times here are Unix seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from core_py.errors import PdError, RetryClass
from pd_py.schedule.placement.ranges import RangeList
from pd_py.schedule.placement.rule import RuleError, field_of, hex_key
from pd_py.schedule.view import KeyRange, RegionView

LABELS_PREFIX = "region_label/"
KEY_RANGE_TYPE = "key-range"
RANGES_MAX = 10_000
RULES_MAX = 100_000
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:ms|us|µs|ns|h|m|s)", re.ASCII)


class RegionRuleError(PdError):
    """A label rule that cannot be taken."""

    code = "PD:region:ErrRegionRuleContent"
    retry = RetryClass.NEVER

    def __init__(self, what: str) -> None:
        super().__init__(f"invalid region rule content, {what}")


class RegionRuleNotFound(PdError):
    """There is no label rule of this id."""

    code = "PD:region:ErrRegionRuleNotFound"
    retry = RetryClass.NEVER

    def __init__(self, rule_id: str) -> None:
        super().__init__(f"region label rule not found for id {rule_id}")


def duration_s(text: str) -> float:
    """Seconds of a duration such as "1h30m". Raises RegionRuleError."""
    parts = _DURATION.findall(text)
    if len(text) > 64 or not parts or "".join(parts) != text:
        raise RegionRuleError(f'region label with invalid ttl info time: invalid duration "{text[:64]}"')
    total = 0.0
    for part in parts:
        number = part.rstrip("hmsnuµ")
        total += float(number) * _UNITS_S[part[len(number) :]]
    return total


@dataclass(frozen=True, slots=True)
class RegionLabel:
    """A label; `expires_at` is Unix seconds, 0 for never."""

    key: str
    value: str
    ttl: str = ""
    expires_at: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The public shape, with the end of its time beside it."""
        out: dict[str, Any] = {"key": self.key, "value": self.value}
        if self.ttl:
            out |= {"ttl": self.ttl, "expires_at": self.expires_at}
        return out


@dataclass(frozen=True, slots=True)
class LabelRule:
    """Labels for the regions that lie within key ranges."""

    id: str
    labels: tuple[RegionLabel, ...]
    ranges: tuple[KeyRange, ...]
    index: int = 0

    def to_json(self) -> dict[str, Any]:
        """The public shape."""
        return {
            "id": self.id,
            "index": self.index,
            "labels": [label.to_json() for label in self.labels],
            "rule_type": KEY_RANGE_TYPE,
            "data": [{"start_key": one.start.hex(), "end_key": one.end.hex()} for one in self.ranges],
        }


def _label(data: Any, now: float, *, stored: bool) -> RegionLabel:
    if not isinstance(data, dict):
        raise RegionRuleError("a region label should be an object")
    key, value, ttl = (field_of(data, name, str, "") for name in ("key", "value", "ttl"))
    if not key:
        raise RegionRuleError("empty region label key")
    if not value:
        raise RegionRuleError("empty region label value")
    if not ttl:
        return RegionLabel(key, value)
    end = data.get("expires_at") if stored else None
    if isinstance(end, int | float) and end > 0:
        return RegionLabel(key, value, ttl, float(end))
    return RegionLabel(key, value, ttl, now + duration_s(ttl))


def _range(data: Any) -> KeyRange:
    if not isinstance(data, dict):
        raise RegionRuleError(f"invalid rule type: {type(data).__name__}")
    for name in ("start_key", "end_key"):
        if not isinstance(data.get(name), str):
            raise RegionRuleError(f"invalid {name} type: {type(data.get(name)).__name__}")
    start, end = hex_key(data["start_key"]), hex_key(data["end_key"])
    if end and end <= start:
        raise RegionRuleError("endKey should be greater than startKey")
    return KeyRange(start, end)


def label_rule_from_json(data: Any, now: float, *, stored: bool = False) -> LabelRule:
    """A label rule out of its public shape; the time of a stored one goes on. Raises RegionRuleError, HexError."""
    try:
        return _label_rule(data, now, stored=stored)
    except RuleError as error:
        raise RegionRuleError(error.message.removeprefix("invalid rule content, ")) from error


def _label_rule(data: Any, now: float, *, stored: bool) -> LabelRule:
    if not isinstance(data, dict):
        raise RegionRuleError("a label rule should be an object")
    rule_id = field_of(data, "id", str, "")
    if not rule_id:
        raise RegionRuleError("empty rule id")
    labels = tuple(_label(one, now, stored=stored) for one in field_of(data, "labels", list, []))
    if not labels:
        raise RegionRuleError("no region labels")
    if all(label.expires_at and label.expires_at <= now for label in labels):
        raise RegionRuleError("region label with expired ttl")
    rule_type = field_of(data, "rule_type", str, "")
    if rule_type != KEY_RANGE_TYPE:
        raise RegionRuleError(f"invalid rule type: {rule_type}")
    ranges = field_of(data, "data", list, [])
    if not ranges:
        raise RegionRuleError("no key ranges")
    if len(ranges) > RANGES_MAX:
        raise RegionRuleError(f"more than {RANGES_MAX} key ranges")
    return LabelRule(rule_id, labels, tuple(_range(one) for one in ranges), field_of(data, "index", int, 0))


@dataclass(slots=True)
class LabelPatch:
    """A checked change that has not been made yet."""

    rules: dict[str, LabelRule]
    changes: dict[str, str | None]


class RegionLabeler:
    """The label rules in force."""

    def __init__(self, *, wall_s: Callable[[], float] = lambda: 0.0) -> None:
        self._rules: dict[str, LabelRule] = {}
        self._ranges: RangeList[LabelRule] = RangeList(())
        self._wall_s = wall_s
        self.refused: list[str] = []

    def load(self, stored: Mapping[str, str]) -> None:
        """Take what was stored, by its keys; what cannot be read or has expired is left out."""
        rules = {}
        for key, text in stored.items():
            if key.startswith(LABELS_PREFIX):
                try:
                    rule = label_rule_from_json(json.loads(text), self._wall_s(), stored=True)
                    rules[rule.id] = rule
                except (ValueError, PdError) as error:
                    self.refused.append(f"{key}: {error}")
        self.commit(LabelPatch(rules, {}))

    def parse(self, data: Any) -> LabelRule:
        """A rule out of its public shape, whose time begins now. Raises RegionRuleError, HexError."""
        return label_rule_from_json(data, self._wall_s())

    def rule(self, rule_id: str) -> LabelRule:
        """One rule. Raises RegionRuleNotFound."""
        rule = self._rules.get(rule_id)
        if rule is None:
            raise RegionRuleNotFound(rule_id)
        return rule

    def rules(self) -> list[LabelRule]:
        """All rules, by id."""
        return [self._rules[rule_id] for rule_id in sorted(self._rules)]

    def plan(self, sets: Iterable[LabelRule], deletes: Iterable[str]) -> LabelPatch:
        """Remove rules, then set rules. Raises RegionRuleNotFound, RegionRuleError."""
        rules = dict(self._rules)
        changes: dict[str, str | None] = {}
        for rule_id in deletes:
            if rule_id not in rules:
                raise RegionRuleNotFound(rule_id)
            del rules[rule_id]
            changes[LABELS_PREFIX + rule_id] = None
        for rule in sets:
            rules[rule.id] = rule
            changes[LABELS_PREFIX + rule.id] = json.dumps(rule.to_json())
        if len(rules) > RULES_MAX:
            raise RegionRuleError(f"more than {RULES_MAX} rules")
        return LabelPatch(rules, changes)

    def expired(self) -> list[str]:
        """Rules all of whose labels have expired."""
        now = self._wall_s()
        return [
            rule.id
            for rule in self._rules.values()
            if all(label.expires_at and label.expires_at <= now for label in rule.labels)
        ]

    def commit(self, patch: LabelPatch) -> None:
        """Make a planned change, after it was stored."""
        self._rules = patch.rules
        self._ranges = RangeList(
            (one.start, one.end, rule)
            for rule in sorted(self._rules.values(), key=lambda r: (r.index, r.id))
            for one in rule.ranges
        )

    def split_keys(self, start: bytes, end: bytes) -> list[bytes]:
        """Where label rules cut a range."""
        return self._ranges.cuts(start, end)

    def label(self, region: RegionView, key: str) -> str:
        """The value of a region's label; empty when it has none, or lies across rules."""
        return self.labels(region).get(key, "")

    def labels(self, region: RegionView) -> dict[str, str]:
        """All labels of a region."""
        if not self._rules:
            return {}
        at = self._ranges.over(region.start_key, region.end_key)
        out: dict[str, str] = {}
        now = self._wall_s()
        for rule in self._ranges.pieces[at] if at >= 0 else ():
            out |= {one.key: one.value for one in rule.labels if not one.expires_at or one.expires_at > now}
        return out

    def denies_schedule(self, region: RegionView) -> bool:
        """Whether schedulers must leave a region alone."""
        return bool(self._rules) and self.label(region, "schedule").lower() == "deny"

    def denies_merge(self, region: RegionView) -> bool:
        """Whether a region must not be merged."""
        return bool(self._rules) and self.label(region, "merge_option").lower() == "deny"
