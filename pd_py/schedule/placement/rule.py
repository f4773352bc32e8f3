"""Placement rules: what replicas a key range should have, and on which stores. JSON shapes and messages are the public ones.

Rules are values. A rule is known by (group id, id). Within a key range they apply in the order of their groups (index, id) and of
their own (index, id); `override` drops those before it in its group, a group's `override` all groups before it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from core_py.errors import PdError, RetryClass
from pd_py.schedule.placement.labels import exclusive_keys
from pd_py.schedule.view import Role, StoreView

LABELS_MAX = 64
VALUES_MAX = 1024
COUNT_MAX = 64


class RuleError(PdError):
    """A rule that cannot be taken."""

    code = "PD:placement:ErrRuleContent"
    retry = RetryClass.NEVER

    def __init__(self, what: str) -> None:
        super().__init__(f"invalid rule content, {what}")


class HexError(PdError):
    """A key that is not in hex."""

    code = "PD:hex:ErrHexDecodingString"
    retry = RetryClass.NEVER

    def __init__(self, text: str) -> None:
        super().__init__(f"decode string {text} error")


class RuleRole(enum.Enum):
    """What a rule's replicas do, by public name."""

    VOTER = "voter"
    LEADER = "leader"
    FOLLOWER = "follower"
    LEARNER = "learner"

    @property
    def peer_role(self) -> Role:
        """The role of a replica that is made for it."""
        return Role.LEARNER if self is RuleRole.LEARNER else Role.VOTER


class LabelOp(enum.Enum):
    """How a label constraint looks at a store, by public name."""

    IN = "in"
    NOT_IN = "notIn"
    EXISTS = "exists"
    NOT_EXISTS = "notExists"


@dataclass(frozen=True, slots=True)
class LabelConstraint:
    """A condition on a store's label."""

    key: str
    op: LabelOp
    values: tuple[str, ...] = ()

    def matches(self, store: StoreView) -> bool:
        """Whether a store meets it; one without the label is in nothing."""
        value = store.label(self.key)
        if self.op is LabelOp.IN:
            return value != "" and value in self.values
        if self.op is LabelOp.NOT_IN:
            return value == "" or value not in self.values
        return (value != "") == (self.op is LabelOp.EXISTS)

    def to_json(self) -> dict[str, Any]:
        """The public shape."""
        out: dict[str, Any] = {"key": self.key, "op": self.op.value}
        if self.values:
            out["values"] = list(self.values)
        return out


def matches_all(store: StoreView, constraints: Iterable[LabelConstraint]) -> bool:
    """Whether a store meets all. A store with an exclusive label is only for those who name the label."""
    constraints = tuple(constraints)
    for key in exclusive_keys(store.labels):
        if not any(one.key == key for one in constraints):
            return False
    return all(one.matches(store) for one in constraints)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule."""

    group_id: str
    id: str
    role: RuleRole
    count: int
    start_key: bytes = b""
    end_key: bytes = b""
    index: int = 0
    override: bool = False
    label_constraints: tuple[LabelConstraint, ...] = ()
    location_labels: tuple[str, ...] = ()
    isolation_level: str = ""
    version: int = 0
    """How often it has been changed."""
    create_timestamp: int = 0
    """Unix seconds."""

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by."""
        return (self.group_id, self.id)

    @property
    def storage_key(self) -> str:
        """Its part of the key it is stored under."""
        return f"{self.group_id.encode().hex()}-{self.id.encode().hex()}"

    def to_json(self) -> dict[str, Any]:
        """The public shape; what has its zero value is left out where the public server does."""
        out: dict[str, Any] = {"group_id": self.group_id, "id": self.id}
        if self.index:
            out["index"] = self.index
        if self.override:
            out["override"] = True
        out |= {"start_key": self.start_key.hex(), "end_key": self.end_key.hex(), "role": self.role.value}
        out |= {"is_witness": False, "count": self.count}
        if self.label_constraints:
            out["label_constraints"] = [one.to_json() for one in self.label_constraints]
        if self.location_labels:
            out["location_labels"] = list(self.location_labels)
        if self.isolation_level:
            out["isolation_level"] = self.isolation_level
        if self.version:
            out["version"] = self.version
        if self.create_timestamp:
            out["create_timestamp"] = self.create_timestamp
        return out


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """What holds for all rules of a group."""

    id: str
    index: int = 0
    override: bool = False

    @property
    def is_default(self) -> bool:
        """Whether it says nothing; such a group is not stored."""
        return not self.index and not self.override

    def to_json(self) -> dict[str, Any]:
        """The public shape."""
        out: dict[str, Any] = {}
        if self.id:
            out["id"] = self.id
        if self.index:
            out["index"] = self.index
        if self.override:
            out["override"] = True
        return out


def hex_key(text: str) -> bytes:
    """A key out of hex. Raises HexError."""
    try:
        return bytes.fromhex(text) if " " not in text else _refuse_hex(text)
    except ValueError:
        return _refuse_hex(text)


def _refuse_hex(text: str) -> bytes:
    raise HexError(text)


def field_of(data: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    """A field of the right JSON type; the default when it is missing or null. Raises RuleError."""
    value = data.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RuleError(f"field {name} should be of type {kind.__name__}")
    return value


def flag_of(data: Mapping[str, Any], name: str) -> bool:
    """A true-or-false field, false when it is missing. Raises RuleError."""
    value: bool = field_of(data, name, bool, default=False)
    return value


def _texts(data: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = field_of(data, name, list, [])
    if len(values) > VALUES_MAX or not all(isinstance(value, str) for value in values):
        raise RuleError(f"field {name} should be a list of at most {VALUES_MAX} texts")
    return tuple(values)


def _constraints(data: Mapping[str, Any]) -> tuple[LabelConstraint, ...]:
    raw = field_of(data, "label_constraints", list, [])
    if len(raw) > LABELS_MAX:
        raise RuleError(f"more than {LABELS_MAX} label constraints")
    out = []
    for one in raw:
        if not isinstance(one, dict):
            raise RuleError("label constraints should be objects")
        op = field_of(one, "op", str, "")
        if op not in {known.value for known in LabelOp}:
            raise RuleError(f"invalid op {op}")
        out.append(LabelConstraint(field_of(one, "key", str, ""), LabelOp(op), _texts(one, "values")))
    return tuple(out)


def rule_from_json(data: Any, group_id: str = "") -> Rule:
    """A rule out of its public shape, checked by itself. Raises RuleError, HexError."""
    if not isinstance(data, dict):
        raise RuleError("a rule should be an object")
    start, end = hex_key(field_of(data, "start_key", str, "")), hex_key(field_of(data, "end_key", str, ""))
    if end and end <= start:
        raise RuleError("endKey should be greater than startKey")
    own_group, rule_id = field_of(data, "group_id", str, ""), field_of(data, "id", str, "")
    if group_id and own_group not in ("", group_id):
        raise RuleError(f"rule group {own_group} does not match group ID {group_id}")
    own_group = own_group or group_id
    if not own_group:
        raise RuleError("group ID should not be empty")
    if not rule_id:
        raise RuleError("ID should not be empty")
    role, count = field_of(data, "role", str, ""), field_of(data, "count", int, 0)
    if role not in {known.value for known in RuleRole}:
        raise RuleError(f"invalid role {role}")
    if not 0 < count <= COUNT_MAX:
        raise RuleError(f"invalid count {count}")
    if role == RuleRole.LEADER.value and count > 1:
        raise RuleError(f"define multiple leaders by count {count}")
    if flag_of(data, "is_witness"):
        raise RuleError("witness replicas are not supported")
    return Rule(
        own_group,
        rule_id,
        RuleRole(role),
        count,
        start,
        end,
        field_of(data, "index", int, 0),
        flag_of(data, "override"),
        _constraints(data),
        _texts(data, "location_labels"),
        field_of(data, "isolation_level", str, ""),
        field_of(data, "version", int, 0),
        field_of(data, "create_timestamp", int, 0),
    )


def group_from_json(data: Any) -> RuleGroup:
    """A group out of its public shape. Raises RuleError."""
    if not isinstance(data, dict):
        raise RuleError("a rule group should be an object")
    return RuleGroup(field_of(data, "id", str, ""), field_of(data, "index", int, 0), flag_of(data, "override"))
