"""Configuration: a TOML file under the public key names, over frozen dataclasses, with flags on top.

A key `raft-base-tick-interval` is the field `raft_base_tick_interval`; a table is a nested dataclass. Sizes ("96MB", "4KiB") and
durations ("10s", "500ms") are written as the public servers write them; their fields have the types `ByteSize` and
`Seconds`. An unknown key is an error that names the nearest known key, because a misspelt setting that is silently
ignored is worse than a refused start. Public keys that this system has no use for are listed by each config class in
`IGNORED_KEYS` and accepted, so that existing files work.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from core_py.errors import ConfigError

T = TypeVar("T")

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?\s*$", re.IGNORECASE)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|s|m|h|d)")
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class ByteSize(int):
    """A number of bytes; text form "96MB" with binary multiples, as the public servers read it."""

    @classmethod
    def parse(cls, value: object) -> ByteSize:
        """From an integer or text."""
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return cls(value)
        match = _SIZE.match(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f'{value!r} is not a size; write it like "96MB"')
        return cls(int(float(match[1]) * 1024 ** _POWERS[match[2].upper()]))


class Seconds(float):
    """A duration in seconds; text form "1m30s", "500ms"."""

    @classmethod
    def parse(cls, value: object) -> Seconds:
        """From a number of seconds or text."""
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return cls(value)
        if isinstance(value, str):
            text = value.strip().lower()
            parts = _DURATION_PART.findall(text)
            if parts and "".join(number + unit for number, unit in parts) == text:
                return cls(sum(float(number) * _UNITS_S[unit] for number, unit in parts))
        raise ValueError(f'{value!r} is not a duration; write it like "10s" or "500ms"')


def load_file(config: type[T], path: str | None, overrides: dict[str, Any] | None = None) -> T:
    """Read `path` (or nothing), apply `overrides` (dotted public keys), validate.

    Raises ConfigError naming file and key.
    """
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"config file {path} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"config file {path} is not TOML: {error}") from error
    for dotted, value in (overrides or {}).items():
        if value is None:
            continue
        *parents, leaf = dotted.split(".")
        target = table
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise ConfigError(f"{path}: {parent}: a table is wanted here")
        target[leaf] = value
    return from_table(config, table, where=path or "flags")


def from_table(config: type[T], table: dict[str, Any], *, where: str = "", prefix: str = "") -> T:
    """Build a config dataclass from a parsed table. Raises ConfigError."""
    hints = typing.get_type_hints(config)
    known = {field.name.replace("_", "-"): field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    ignored: frozenset[str] = getattr(config, "IGNORED_KEYS", frozenset())
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = known.get(key.replace("_", "-"))
        if name is None:
            if key in ignored:
                continue
            raise ConfigError(_unknown(prefix + key, prefix, [*known, *ignored], where))
        try:
            values[name] = _convert(hints[name], value, where, f"{prefix}{key}.")
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{where}: {prefix}{key}: {error}") from error
    try:
        result = config(**values)
        validate = getattr(result, "validate", None)
        if validate is not None:
            validate()
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error
    return result


def _unknown(key: str, prefix: str, known: list[str], where: str) -> str:
    near = difflib.get_close_matches(key.removeprefix(prefix), known, n=1, cutoff=0.5)
    hint = f"; the nearest known key is {prefix}{near[0]}" if near else f"; known keys here: {', '.join(sorted(known))}"
    return f"{where}: unknown key {key}{hint}"


def _convert(kind: Any, value: Any, where: str, prefix: str) -> Any:
    if isinstance(kind, types.UnionType):
        kinds = [arg for arg in typing.get_args(kind) if arg is not type(None)]
        return None if value is None else _convert(kinds[0], value, where, prefix)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError("a table is wanted here")
        return from_table(typing.cast("type[Any]", kind), value, where=where, prefix=prefix)
    if kind in (ByteSize, Seconds):
        return kind.parse(value)
    origin = typing.get_origin(kind)
    if origin is tuple:
        items = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            raise ValueError("a list of texts is wanted here")
        return tuple(items)
    if origin is dict:
        if isinstance(value, str):
            parts = [part.partition("=") for part in value.split(",") if part]
            if not all(equals for _, equals, _ in parts):
                raise ValueError(f'{value!r} is not of the form "key=value,..."')
            value = {key.strip(): text.strip() for key, _, text in parts}
        if not isinstance(value, dict):
            raise ValueError("a table is wanted here")
        return {str(k): str(v) for k, v in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{value!r} is not of type {kind.__name__}")
    return value
