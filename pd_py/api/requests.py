"""Reading requests: numbers, keys and bodies, refused with the texts of Go's parsers; and writing answers.

Keys are bytes: they are taken from the request target as it was sent, for a key that is not UTF-8 does not survive decoding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from aiohttp import web

from pd_py.api.errors import ApiError, InvalidInput

DEFAULT_LIMIT = 16
MAX_LIMIT = 10_240
_UINT64 = 1 << 64
_INT64 = 1 << 63


def answer(body: Any, status: int = 200) -> web.Response:
    """A JSON answer, indented as the public server does it."""
    text = json.dumps(body, indent=2, ensure_ascii=False) + "\n"
    return web.Response(
        body=text.encode("utf-8", "replace"), status=status, content_type="application/json", charset="UTF-8"
    )


def plain(text: str, status: int = 200) -> web.Response:
    """A text answer."""
    return web.Response(text=text, status=status, content_type="text/plain", charset="UTF-8")


def uint64(text: str) -> int:
    """An unsigned number. Raises ValueError with the text of strconv.ParseUint."""
    if not text.isascii() or not text.isdigit():
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if len(text) > 20 or int(text) >= _UINT64:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)


def integer(text: str) -> int:
    """A signed number. Raises ValueError with the text of strconv.Atoi."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isascii() or not digits.isdigit():
        raise ValueError(f'strconv.Atoi: parsing "{text}": invalid syntax')
    if len(digits) > 19 or not -_INT64 <= int(text) < _INT64:
        raise ValueError(f'strconv.Atoi: parsing "{text}": value out of range')
    return int(text)


def path_uint64(request: web.Request, name: str) -> int:
    """A number in the path; refused as a text."""
    try:
        return uint64(request.match_info[name])
    except ValueError as error:
        raise ApiError(400, str(error)) from error


def path_id(request: web.Request, name: str = "id") -> int:
    """A number in the path; refused as an object with a code, as for stores."""
    try:
        return uint64(request.match_info[name])
    except ValueError as error:
        raise InvalidInput(str(error)) from error


def query(request: web.Request) -> dict[str, list[bytes]]:
    """All query parameters as bytes."""
    out: dict[str, list[bytes]] = {}
    raw = request.raw_path.partition("?")[2]
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, encoding="latin-1", max_num_fields=10_000)
    except ValueError as error:
        raise ApiError(400, str(error)) from error
    for name, value in pairs:
        out.setdefault(name, []).append(value.encode("latin-1"))
    return out


def query_bytes(request: web.Request, name: str) -> bytes:
    """A query parameter; empty when it is missing."""
    return query(request).get(name, [b""])[0]


def query_text(request: web.Request, name: str) -> str:
    """A query parameter as text; empty when it is missing."""
    return query_bytes(request, name).decode("utf-8", "replace")


def limit(request: web.Request, default: int = DEFAULT_LIMIT) -> int:
    """The parameter `limit`, at most MAX_LIMIT."""
    text = query_text(request, "limit")
    try:
        return min(integer(text) if text else default, MAX_LIMIT)
    except ValueError as error:
        raise ApiError(400, str(error)) from error


def last_segment(request: web.Request) -> bytes:
    """The last part of the path, decoded as a query parameter is ('+' is a space)."""
    return unquote_to_bytes(request.raw_path.partition("?")[0].rpartition("/")[2].replace("+", " "))


def from_hex(text: str | bytes) -> bytes:
    """A key out of hex. Raises ValueError with the text of Go's hex package."""
    raw = text.encode() if isinstance(text, str) else text
    for byte in raw:
        if byte not in b"0123456789abcdefABCDEF":
            shown = chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"
            raise ValueError(f"encoding/hex: invalid byte: U+{byte:04X} '{shown}'")
    if len(raw) % 2:
        raise ValueError("encoding/hex: odd length hex string")
    return bytes.fromhex(raw.decode())


def key_in_format(request: web.Request, key: bytes) -> bytes:
    """A key, in hex when the query says `format=hex`."""
    if query_text(request, "format") != "hex":
        return key
    try:
        return from_hex(key)
    except ValueError as error:
        raise ApiError(400, str(error)) from error


async def body(request: web.Request) -> Any:
    """The JSON body. Raises InvalidInput."""
    raw = await request.read()
    try:
        return parse(raw)
    except ValueError as error:
        raise InvalidInput(str(error)) from error


def parse(raw: bytes) -> Any:
    """A JSON value, as Go's decoder takes it: no NaN, and half a surrogate pair is U+FFFD. Raises ValueError with its text."""
    try:
        value = json.loads(raw, parse_constant=_refuse_constant)
        return _whole_characters(value) if b"\\u" in raw else value
    except RecursionError as error:
        raise ValueError("exceeded max depth") from error
    except ValueError as error:
        raise ValueError(_json_error(raw, error)) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _whole_characters(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole_characters(one) for one in value]
    if isinstance(value, dict):
        return {_whole_characters(key): _whole_characters(one) for key, one in value.items()}
    return value


def _json_error(raw: bytes, error: Exception) -> str:
    if not raw.strip():
        return "unexpected end of JSON input"
    at = getattr(error, "pos", 0)
    text = raw.decode("utf-8", "replace")
    if at >= len(text):
        return "unexpected end of JSON input"
    return f"invalid character {text[at]!r} looking for beginning of value"


async def body_object(request: web.Request) -> dict[str, Any]:
    """The JSON body, which must be an object. Raises InvalidInput."""
    value = await body(request)
    if not isinstance(value, dict):
        raise InvalidInput(f"json: cannot unmarshal {go_kind(value)} into Go value of type map[string]interface {{}}")
    return value


async def body_list(request: web.Request) -> list[Any]:
    """The JSON body, which must be a list. Raises InvalidInput."""
    value = await body(request)
    if not isinstance(value, list):
        raise InvalidInput(f"json: cannot unmarshal {go_kind(value)} into Go value of type []interface {{}}")
    return value


def go_kind(value: Any) -> str:
    """How Go's JSON decoder names what it found."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "null" if value is None else "object"


def number(values: Mapping[str, Any], name: str) -> float | None:
    """A number of a body; None when it is missing or something else."""
    value = values.get(name)
    return None if isinstance(value, bool) or not isinstance(value, int | float) else value


def identity(values: Mapping[str, Any], name: str) -> int | None:
    """An id of a body; None when it is missing, not a whole number or out of range."""
    value = number(values, name)
    if value is None or not 0 <= value < _UINT64 or int(value) != value:
        return None
    return int(value)


def identities(value: Any) -> list[int] | None:
    """A list of ids; None when it is something else."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    found = [identity({"id": one}, "id") for one in value]
    return None if None in found else [one for one in found if one is not None]
