"""Answers as JSON, or as tables for people. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

LISTS = ("stores", "regions", "members", "service_gc_safe_points")
"""Under which names an answer holds its list."""
MAX_CELL = 48


def as_json(value: Any) -> str:
    """Indented, as the public tool prints it."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def as_table(value: Any) -> str:
    """Rows of an answer's list, or its names and values."""
    if isinstance(value, Mapping):
        for name in LISTS:
            if isinstance(value.get(name), list):
                return _rows(value[name])
        flat = _flat(value)
        return _aligned([["name", "value"], *[[name, _cell(one)] for name, one in flat.items()]])
    if isinstance(value, list):
        return _rows(value)
    return _cell(value)


def _rows(values: Sequence[Any]) -> str:
    flat = [_flat(value) if isinstance(value, Mapping) else {"": value} for value in values]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    if not columns:
        return "(none)"
    return _aligned([columns, *[[_cell(row.get(column, "")) for column in columns] for row in flat]])


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """One level: {"store": {"id": 1}} becomes {"store.id": 1}."""
    out: dict[str, Any] = {}
    for name, one in value.items():
        if isinstance(one, Mapping):
            out |= _flat(one, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = one
    return out


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        text = ", ".join(_part(one) for one in value)
    else:
        text = str(value)
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"


def _part(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    if {"key", "value"} <= set(value):
        return f"{value['key']}={value['value']}"
    if "store_id" in value:
        return str(value["store_id"])
    return json.dumps(value)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
