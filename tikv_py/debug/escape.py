"""Keys in the escaped form of tikv-ctl.

Printable ASCII stands for itself, everything else is `\\ooo` (octal); newline, return, tab, backslash and the quotes have
their short forms. What is typed in may also use `\\xhh`.
"""

from __future__ import annotations

from core_py.errors import DbError

_NAMED = {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", ord("\\"): "\\\\", ord('"'): '\\"', ord("'"): "\\'"}
_BYTES = {text[1]: byte for byte, text in _NAMED.items()}


class BadKeyText(DbError):
    """A key that was typed in is not in the escaped form."""

    code = "KV:Ctl:BadKeyText"


def escape(data: bytes) -> str:
    """Bytes as text."""
    return "".join(_NAMED.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}") for byte in data)


def unescape(text: str) -> bytes:
    """The inverse of `escape`; also takes `\\xhh`. Raises BadKeyText."""
    out = bytearray()
    at = 0
    while at < len(text):
        char = text[at]
        if char != "\\":
            out += char.encode()
            at += 1
            continue
        following = text[at + 1 : at + 2]
        if following in _BYTES:
            out.append(_BYTES[following])
            at += 2
        elif following == "x":
            out.append(_number(text, at, text[at + 2 : at + 4], 2, 16))
            at += 4
        else:
            out.append(_number(text, at, text[at + 1 : at + 4], 3, 8))
            at += 4
    return bytes(out)


def _number(text: str, at: int, digits: str, width: int, base: int) -> int:
    allowed = "0123456789abcdef"[:base]
    if len(digits) == width and all(digit.lower() in allowed for digit in digits):
        value = int(digits, base)
        if value < 256:
            return value
    raise BadKeyText(f"{text!r}: the escape at position {at} is none of \\ooo, \\xhh, \\n, \\r, \\t, \\\\, \\\", \\'")
