"""All placement rules and groups, and which of them apply to a key range.

A change is made in two steps, so that it is durable before it has an effect: `plan...` checks the whole that would come out and
returns a `RulePatch` with the pairs to store; when those are stored, `commit` makes it so. Between the two nothing else may be
planned (the coordinator's lock). Every key range must keep rules with a leader or voter, and at most one leader.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core_py.errors import PdError, RetryClass
from pd_py.schedule.placement.ranges import RangeList
from pd_py.schedule.placement.rule import (
    Rule,
    RuleError,
    RuleGroup,
    RuleRole,
    field_of,
    flag_of,
    group_from_json,
    matches_all,
    rule_from_json,
)
from pd_py.schedule.view import StoreView

DEFAULT_GROUP = "pd"
DEFAULT_RULE = "default"
RULES_PREFIX = "rules/"
GROUPS_PREFIX = "rule_group/"
RULES_MAX = 100_000


class RuleListError(PdError):
    """What would come out is no set of rules to work by."""

    code = "PD:placement:ErrBuildRuleList"
    retry = RetryClass.NEVER

    def __init__(self, what: str) -> None:
        super().__init__(f"build rule list failed, {what}")


@dataclass(slots=True)
class RulePatch:
    """A checked change that has not been made yet."""

    rules: dict[tuple[str, str], Rule]
    groups: dict[str, RuleGroup]
    changes: dict[str, str | None]
    """What to store: key below the cluster's prefix to JSON, or None to remove it."""
    applied: RangeList[Rule]
    chosen: list[tuple[Rule, ...]]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A group with its rules, as the API has them."""

    group: RuleGroup
    rules: tuple[Rule, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The public shape."""
        return {
            "group_id": self.group.id,
            "group_index": self.group.index,
            "group_override": self.group.override,
            "rules": [rule.to_json() for rule in self.rules],
        }


def bundle_from_json(data: Any) -> Bundle:
    """A bundle out of its public shape. Raises RuleError, HexError."""
    if not isinstance(data, dict):
        raise RuleError("a group bundle should be an object")
    group_id = field_of(data, "group_id", str, "")
    if not group_id:
        raise RuleError("group ID should not be empty")
    index, override = field_of(data, "group_index", int, 0), flag_of(data, "group_override")
    rules = field_of(data, "rules", list, [])
    return Bundle(RuleGroup(group_id, index, override), tuple(rule_from_json(one, group_id=group_id) for one in rules))


@dataclass(frozen=True, slots=True)
class RuleAction:
    """One action of a batch: set a rule, or delete those that match."""

    action: str
    rule: Rule | None = None
    group_id: str = ""
    id: str = ""
    by_prefix: bool = False


def action_from_json(data: Any) -> RuleAction:
    """An action out of its public shape. Raises RuleError, HexError."""
    if not isinstance(data, dict):
        raise RuleError("an action should be an object")
    action = field_of(data, "action", str, "")
    if action == "add":
        return RuleAction(action, rule_from_json(data))
    if action == "del":
        by_prefix = flag_of(data, "delete_by_id_prefix")
        return RuleAction(action, None, field_of(data, "group_id", str, ""), field_of(data, "id", str, ""), by_prefix)
    raise RuleError(f"invalid action {action}")


class RuleManager:
    """The rules in force."""

    def __init__(self, *, wall_s: Callable[[], int] = lambda: 0) -> None:
        self._rules: dict[tuple[str, str], Rule] = {}
        self._groups: dict[str, RuleGroup] = {}
        self._applied: RangeList[Rule] = RangeList(())
        self._chosen: list[tuple[Rule, ...]] = [()]
        self._wanted = [0]
        self._wall_s = wall_s
        self.refused: list[str] = []
        """Stored rules that could not be read, for the log."""

    def load(self, stored: Mapping[str, str]) -> None:
        """Take what was stored, by its keys. What cannot be read is left out and named in `refused`. Raises RuleListError."""
        rules: dict[tuple[str, str], Rule] = {}
        groups: dict[str, RuleGroup] = {}
        for key, text in stored.items():
            try:
                if key.startswith(RULES_PREFIX):
                    rule = rule_from_json(json.loads(text))
                    rules[rule.key] = rule
                elif key.startswith(GROUPS_PREFIX):
                    group = group_from_json(json.loads(text))
                    groups[group.id] = group
            except (ValueError, PdError) as error:
                self.refused.append(f"{key}: {error}")
        if rules:
            self.commit(self._patch(rules, groups, {}))

    def plan_default(self, max_replicas: int, location_labels: Sequence[str], isolation_level: str) -> RulePatch:
        """The default rule as the replication settings want it: made when there is none, changed with them."""
        rules = dict(self._rules)
        old = rules.get((DEFAULT_GROUP, DEFAULT_RULE))
        new = Rule(
            DEFAULT_GROUP,
            DEFAULT_RULE,
            RuleRole.VOTER,
            max_replicas,
            location_labels=tuple(location_labels),
            isolation_level=isolation_level,
        )
        if old is not None:
            labels = tuple(location_labels)
            new = replace(old, count=max_replicas, location_labels=labels, isolation_level=isolation_level)
        return self._plan({**rules, new.key: new}, dict(self._groups))

    # what is there

    def __len__(self) -> int:
        return len(self._rules)

    def rule(self, group_id: str, rule_id: str) -> Rule | None:
        """One rule."""
        return self._rules.get((group_id, rule_id))

    def all(self) -> list[Rule]:
        """All rules in their order."""
        return sorted(self._rules.values(), key=self._order)

    def of_group(self, group_id: str) -> list[Rule]:
        """A group's rules in their order."""
        return [rule for rule in self.all() if rule.group_id == group_id]

    def by_key(self, key: bytes) -> list[Rule]:
        """All rules whose range holds a key, in their order, overridden ones too."""
        return sorted(self._applied.pieces[self._applied.at(key)], key=self._order)

    def group(self, group_id: str) -> RuleGroup | None:
        """One group, None when it has neither settings nor rules."""
        known = self._groups.get(group_id)
        if known is None and any(rule.group_id == group_id for rule in self._rules.values()):
            return RuleGroup(group_id)
        return known

    def groups(self) -> list[RuleGroup]:
        """All groups, by index and id."""
        ids = {rule.group_id for rule in self._rules.values()} | set(self._groups)
        known = [self._groups.get(group_id, RuleGroup(group_id)) for group_id in sorted(ids)]
        return sorted(known, key=lambda group: (group.index, group.id))

    def bundles(self) -> list[Bundle]:
        """All groups with their rules."""
        return [self.bundle(group.id) for group in self.groups()]

    def bundle(self, group_id: str) -> Bundle:
        """One group with its rules."""
        return Bundle(self._groups.get(group_id, RuleGroup(group_id)), tuple(self.of_group(group_id)))

    def for_range(self, start: bytes, end: bytes) -> tuple[Rule, ...]:
        """The rules to apply to a range in their order; none when the range is cut by the rules' ranges."""
        at = self._applied.over(start, end)
        return self._chosen[at] if at >= 0 else ()

    def wanted(self, start: bytes, end: bytes) -> int:
        """How many replicas a range should have; -1 when it is cut."""
        at = self._applied.over(start, end)
        return self._wanted[at] if at >= 0 else -1

    def split_keys(self, start: bytes, end: bytes) -> list[bytes]:
        """Where rules cut a range."""
        return self._applied.cuts(start, end)

    # changes

    def plan_set(self, rules: Iterable[Rule], stores: Iterable[StoreView]) -> RulePatch:
        """Set rules. Raises RuleError, RuleListError."""
        rules = list(rules)
        self._check_stores(rules, stores)
        return self._plan(self._rules | {rule.key: rule for rule in rules}, dict(self._groups))

    def plan_delete(self, group_id: str, rule_id: str) -> RulePatch:
        """Remove a rule. Raises RuleListError."""
        left = {key: rule for key, rule in self._rules.items() if key != (group_id, rule_id)}
        return self._plan(left, dict(self._groups))

    def plan_batch(self, actions: Iterable[RuleAction], stores: Iterable[StoreView]) -> RulePatch:
        """Several sets and deletes as one. Raises RuleError, RuleListError."""
        actions = list(actions)
        self._check_stores([one.rule for one in actions if one.rule is not None], stores)
        rules = dict(self._rules)
        for one in actions:
            if one.rule is not None:
                rules[one.rule.key] = one.rule
            else:
                for key in [key for key in rules if _matches(key, one)]:
                    del rules[key]
        return self._plan(rules, dict(self._groups))

    def plan_group(self, group: RuleGroup) -> RulePatch:
        """Set a group's own settings. Raises RuleListError."""
        return self._plan(dict(self._rules), {**self._groups, group.id: group})

    def plan_delete_group(self, group_id: str) -> RulePatch:
        """Forget a group's own settings. Raises RuleListError."""
        return self._plan(dict(self._rules), {key: one for key, one in self._groups.items() if key != group_id})

    def plan_bundles(self, bundles: Iterable[Bundle], stores: Iterable[StoreView], *, replace_all: bool) -> RulePatch:
        """Set groups with their rules, in place of what they had, or of all there is. Raises RuleError, RuleListError."""
        bundles = list(bundles)
        named = {bundle.group.id for bundle in bundles}
        rules = {} if replace_all else {key: rule for key, rule in self._rules.items() if key[0] not in named}
        groups = {} if replace_all else dict(self._groups)
        new = [rule for bundle in bundles for rule in bundle.rules]
        self._check_stores(new, stores)
        rules |= {rule.key: rule for rule in new}
        return self._plan(rules, groups | {bundle.group.id: bundle.group for bundle in bundles})

    def plan_delete_bundle(self, group_id: str, *, regex: bool) -> RulePatch:
        """Remove groups with their rules, by id or by an expression. Raises RuleError, RuleListError."""
        try:
            found = re.compile(group_id).search if regex else None
        except re.error as error:
            raise RuleError(f"bad regular expression {group_id}: {error}") from error

        def gone(name: str) -> bool:
            return name == group_id if found is None else found(name) is not None

        rules = {key: rule for key, rule in self._rules.items() if not gone(key[0])}
        return self._plan(rules, {name: group for name, group in self._groups.items() if not gone(name)})

    def commit(self, patch: RulePatch) -> None:
        """Make a planned change, after it was stored."""
        self._rules, self._groups = patch.rules, patch.groups
        self._applied, self._chosen = patch.applied, patch.chosen
        self._wanted = [sum(rule.count for rule in rules) for rules in patch.chosen]

    def _plan(self, rules: dict[tuple[str, str], Rule], groups: dict[str, RuleGroup]) -> RulePatch:
        if len(rules) > RULES_MAX:
            raise RuleListError(f"more than {RULES_MAX} rules")
        groups = {group_id: group for group_id, group in groups.items() if not group.is_default}
        changes: dict[str, str | None] = {}
        for key, rule in list(rules.items()):
            old = self._rules.get(key)
            bare = replace(rule, version=old.version if old else 0, create_timestamp=old.create_timestamp if old else 0)
            if old == bare:
                rules[key] = old
                continue
            version = 0 if old is None else old.version + 1
            created = self._wall_s() if old is None else old.create_timestamp
            rules[key] = stamped = replace(rule, version=version, create_timestamp=created)
            changes[RULES_PREFIX + stamped.storage_key] = json.dumps(stamped.to_json())
        for key, rule in self._rules.items():
            if key not in rules:
                changes[RULES_PREFIX + rule.storage_key] = None
        for group_id, group in groups.items():
            if self._groups.get(group_id) != group:
                changes[GROUPS_PREFIX + group_id] = json.dumps(group.to_json())
        changes |= {GROUPS_PREFIX + group_id: None for group_id in self._groups if group_id not in groups}
        return self._patch(rules, groups, changes)

    def _patch(
        self, rules: dict[tuple[str, str], Rule], groups: dict[str, RuleGroup], changes: dict[str, str | None]
    ) -> RulePatch:
        if not rules:
            raise RuleListError("no rule left")
        applied = RangeList((rule.start_key, rule.end_key, rule) for rule in rules.values())
        chosen = []
        for at, piece in enumerate(applied.pieces):
            start = applied.starts[at]
            end = applied.starts[at + 1] if at + 1 < len(applied.starts) else b""
            where = f"for range {{{start.hex().upper()}, {end.hex().upper()}}}"
            if not piece:
                raise RuleListError(f"no rule {where}")
            apply = _applied_rules(piece, groups)
            _check_roles(apply, where)
            chosen.append(apply)
        return RulePatch(rules, groups, changes, applied, chosen)

    def _check_stores(self, rules: Iterable[Rule], stores: Iterable[StoreView]) -> None:
        """A rule that no store can meet is a mistake; before the first store registers nothing can be said."""
        stores = list(stores)
        for rule in rules:
            if stores and not any(matches_all(store, rule.label_constraints) for store in stores):
                raise RuleError(f"rule '{rule.id}' from rule group '{rule.group_id}' can not match any store")

    def _order(self, rule: Rule) -> tuple[int, str, int, str]:
        return _order(rule, self._groups)


def _matches(key: tuple[str, str], action: RuleAction) -> bool:
    if key[0] != action.group_id:
        return False
    return key[1].startswith(action.id) if action.by_prefix else key[1] == action.id


def _order(rule: Rule, groups: Mapping[str, RuleGroup]) -> tuple[int, str, int, str]:
    group = groups.get(rule.group_id)
    return (group.index if group else 0, rule.group_id, rule.index, rule.id)


def _applied_rules(rules: Iterable[Rule], groups: Mapping[str, RuleGroup]) -> tuple[Rule, ...]:
    """The rules of one piece in their order, without those that are overridden."""
    out: list[Rule] = []
    group_at = 0
    current: str | None = None
    for rule in sorted(rules, key=lambda one: _order(one, groups)):
        if rule.group_id != current:
            group = groups.get(rule.group_id)
            if group is not None and group.override:
                out.clear()
            current, group_at = rule.group_id, len(out)
        if rule.override:
            del out[group_at:]
        out.append(rule)
    return tuple(out)


def _check_roles(rules: Iterable[Rule], where: str) -> None:
    counts = dict.fromkeys(RuleRole, 0)
    for rule in rules:
        counts[rule.role] += rule.count
    if counts[RuleRole.LEADER] > 1:
        raise RuleListError(f"multiple leader replicas {where}")
    if counts[RuleRole.LEADER] + counts[RuleRole.VOTER] < 1:
        raise RuleListError(f"needs at least one leader or voter {where}")
