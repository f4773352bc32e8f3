"""JSON functions over JSON text: extract by path, unquote, type, length, contains, build.

JSON columns hold normalised text (not TiDB's binary form). Paths are MySQL's: `$`, `.key`, `."key"`, `[n]`, `[*]`, `.*`. A text
that is no JSON is error 3140, a bad path 3143.
"""

from __future__ import annotations

import json
import re
from typing import Any

from core_py.vector.arrow import Vec, pa
from core_py.vector.errors import EvalError
from core_py.vector.eval import KERNELS, Call, kernel, map_rows
from core_py.vector.expr import sig
from core_py.vector.text import value_text

BIN = pa.large_binary()
_STEP = re.compile(r'\.(?:([A-Za-z_$][\w$]*)|"((?:[^"\\]|\\.)*)"|(\*))|\[\s*(?:(\d+)|(\*))\s*\]')


class InvalidJson(EvalError):
    """A text that is no JSON."""

    code = "Sql:Eval:InvalidJson"
    mysql_code = 3140
    sqlstate = "22032"


class InvalidPath(EvalError):
    """A path that is none."""

    code = "Sql:Eval:InvalidJsonPath"
    mysql_code = 3143
    sqlstate = "42000"


class InvalidOneOrAll(EvalError):
    """JSON_CONTAINS_PATH with a second argument that is neither 'one' nor 'all'."""

    code = "Sql:Eval:InvalidJsonOneOrAll"
    mysql_code = 3154
    sqlstate = "42000"


def load(raw: bytes) -> Any:
    """JSON text as Python values."""
    try:
        return json.loads(raw)
    except ValueError as error:
        raise InvalidJson(f"Invalid JSON text: {error}") from error


def dump(value: Any) -> bytes:
    """Python values as JSON text in MySQL's spelling."""
    return json.dumps(value, ensure_ascii=False).encode()


def parse_path(text: str) -> list[str | int | None]:
    """The steps of a path: a key, an index, or None for a wildcard."""
    text = text.strip()
    steps: list[str | int | None] = []
    at = 1
    while text[:1] == "$" and at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            break
        name, quoted, any_key, index, _any_index = match.groups()
        if name is not None or quoted is not None:
            steps.append(name if name is not None else json.loads(f'"{quoted}"'))
        else:
            steps.append(int(index) if index is not None and any_key is None else None)
        at = match.end()
    if text[:1] != "$" or at < len(text):
        raise InvalidPath(f"Invalid JSON path expression. The error is around character position {at}.")
    return steps


def walk(value: Any, steps: list[str | int | None]) -> list[Any]:
    """All values at a path."""
    found = [value]
    for step in steps:
        following: list[Any] = []
        for item in found:
            if step is None:
                following += list(item.values()) if isinstance(item, dict) else item if isinstance(item, list) else []
            elif isinstance(step, str):
                following += [item[step]] if isinstance(item, dict) and step in item else []
            elif isinstance(item, list):
                following += [item[step]] if step < len(item) else []
            elif step == 0:
                following.append(item)
        found = following
    return found


@kernel("JsonExtractSig")
def _extract(call: Call, value: Vec, *paths: Vec) -> Vec:
    def extract(raw: bytes, *texts: bytes) -> bytes | None:
        document, found = load(raw), []
        many = len(texts) > 1
        for text in texts:
            steps = parse_path(text.decode())
            many = many or None in steps
            found += walk(document, steps)
        if not found:
            return None
        return dump(found if many else found[0])

    return map_rows(call, extract, BIN, value, *paths)


def unquote(raw: bytes) -> bytes:
    """A JSON string without its quotes; other values as they are."""
    if raw[:1] != b'"':
        return raw
    value = load(raw)
    return value.encode() if isinstance(value, str) else raw


@kernel("JsonUnquoteSig")
def _unquote(call: Call, value: Vec) -> Vec:
    return map_rows(call, unquote, BIN, value)


def _cast_text(call: Call, value: Vec) -> Vec:
    """A JSON scalar to a number or time: by its text, strings without their quotes."""
    texts = map_rows(call, lambda raw: {b"true": b"1", b"false": b"0"}.get(raw, unquote(raw)), BIN, value)
    return KERNELS[sig(call.node.name.replace("CastJson", "CastString"))](call, texts)


kernel("CastJsonAsInt", "CastJsonAsReal", "CastJsonAsDecimal", "CastJsonAsTime", "CastJsonAsDuration")(_cast_text)


@kernel("JsonTypeSig")
def _type(call: Call, value: Vec) -> Vec:
    def name(raw: bytes) -> bytes:
        kind = load(raw)
        if kind is None:
            return b"NULL"
        names = {bool: b"BOOLEAN", int: b"INTEGER", float: b"DOUBLE", str: b"STRING", list: b"ARRAY", dict: b"OBJECT"}
        return names[type(kind)]

    return map_rows(call, name, BIN, value)


@kernel("JsonValidStringSig")
def _valid(call: Call, value: Vec) -> Vec:
    def valid(raw: bytes) -> int:
        try:
            json.loads(raw)
        except ValueError:
            return 0
        return 1

    return map_rows(call, valid, pa.int64(), value)


@kernel("JsonLengthSig")
def _length(call: Call, value: Vec, *path: Vec) -> Vec:
    def length(raw: bytes, text: bytes = b"$") -> int | None:
        found = walk(load(raw), parse_path(text.decode()))
        if not found:
            return None
        return len(found[0]) if isinstance(found[0], (list, dict)) else 1

    return map_rows(call, length, pa.int64(), value, *path)


def contains(document: Any, wanted: Any) -> bool:
    """Whether `wanted` is in `document`, by MySQL's rules."""
    if isinstance(document, list):
        if isinstance(wanted, list):
            return all(any(contains(d, w) for d in document) for w in wanted)
        return any(contains(d, wanted) for d in document)
    if isinstance(document, dict) and isinstance(wanted, dict):
        return all(k in document and contains(document[k], v) for k, v in wanted.items())
    return type(document) is type(wanted) and bool(document == wanted)


@kernel("JsonContainsSig")
def _contains(call: Call, value: Vec, wanted: Vec, *path: Vec) -> Vec:
    def test(raw: bytes, other: bytes, text: bytes = b"$") -> int | None:
        found = walk(load(raw), parse_path(text.decode()))
        return int(contains(found[0], load(other))) if found else None

    return map_rows(call, test, pa.int64(), value, wanted, *path)


@kernel("JsonContainsPathSig")
def _contains_path(call: Call, value: Vec, amount: Vec, *paths: Vec) -> Vec:
    def test(raw: bytes, word: bytes, *texts: bytes) -> int:
        document, how = load(raw), word.lower()
        if how not in (b"one", b"all"):
            raise InvalidOneOrAll("The oneOrAll argument to json_contains_path may take these values: 'one' or 'all'.")
        found = [bool(walk(document, parse_path(text.decode()))) for text in texts]
        return int(any(found) if how == b"one" else all(found))

    return map_rows(call, test, pa.int64(), value, amount, *paths)


@kernel("JsonKeysSig")
def _keys(call: Call, value: Vec) -> Vec:
    def keys(raw: bytes) -> bytes | None:
        document = load(raw)
        return dump(list(document)) if isinstance(document, dict) else None

    return map_rows(call, keys, BIN, value)


def _element(call: Call, i: int, value: object) -> Any:
    """An argument as a JSON value: JSON as it is, numbers as numbers, the rest as text."""
    ft = call.arg_type(i)
    if value is None or isinstance(value, (int, float)):
        return value
    raw = value_text(value, ft)
    if ft.eval_type.name == "JSON":
        return load(raw)
    return float(raw) if ft.eval_type.name == "DECIMAL" else raw.decode(errors="replace")


@kernel("JsonArraySig", "JsonObjectSig")
def _build(call: Call, *args: Vec) -> Vec:
    is_array = call.node.name == "JsonArraySig"
    lists = [call.array(arg).to_pylist() for arg in args]
    out = []
    for row in zip(*lists, strict=True) if lists else [()] * call.rows:
        values = [_element(call, i, v) for i, v in enumerate(row)]
        if is_array:
            out.append(dump(values))
        else:
            out.append(dump({str(k): v for k, v in zip(values[::2], values[1::2], strict=False)}))
    return pa.array(out, BIN)
