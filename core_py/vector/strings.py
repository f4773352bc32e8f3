"""String functions. Positions count characters for text and bytes for binary strings; indices start at 1.

Common ones run as Arrow kernels; the rest run once per different value (`map_unique`) or, with several varying
arguments, per row.
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
import zlib
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pyarrow as _pyarrow

from core_py.vector.arrow import FALSE, Vec, pa, pc
from core_py.vector.collate import fold, is_binary_order, sort_key
from core_py.vector.errors import InvalidArgument, InvalidText
from core_py.vector.eval import Call, ints, kernel, map_rows
from core_py.vector.text import to_text

BIN = pa.large_binary()
I64 = pa.int64()


def text_of(value: Vec) -> Vec:
    """Bytes as Arrow text; bytes that are not UTF-8 are error 1300."""
    try:
        return value.cast(pa.large_string())
    except _pyarrow.ArrowInvalid as error:
        raise InvalidText("Invalid utf8mb4 character string") from error


def _utf8(op: Callable[..., Vec]) -> Callable[..., Vec]:
    return lambda _call, value: op(text_of(value)).cast(BIN)


kernel("Upper", "UpperUTF8")(_utf8(pc.utf8_upper))
kernel("Lower", "LowerUTF8")(_utf8(pc.utf8_lower))
kernel("ReverseUTF8")(_utf8(pc.utf8_reverse))


@kernel("Length")
def _length(_call: Call, value: Vec) -> Vec:
    return pc.binary_length(value).cast(I64)


@kernel("BitLength")
def _bit_length(_call: Call, value: Vec) -> Vec:
    return pc.multiply(pc.binary_length(value).cast(I64), 8)


@kernel("CharLengthUTF8", "CharLength")
def _char_length(_call: Call, value: Vec) -> Vec:
    return pc.utf8_length(text_of(value)).cast(I64)


@kernel("Concat")
def _concat(_call: Call, *values: Vec) -> Vec:
    return pc.binary_join_element_wise(*values, pa.scalar(b"", BIN), null_handling="emit_null")


@kernel("ConcatWS")
def _concat_ws(_call: Call, separator: Vec, *values: Vec) -> Vec:
    return pc.binary_join_element_wise(*values, separator, null_handling="skip")


@kernel("LTrim")
def _ltrim(_call: Call, value: Vec) -> Vec:
    return pc.ascii_ltrim(text_of(value), characters=" ").cast(BIN)


@kernel("RTrim")
def _rtrim(_call: Call, value: Vec) -> Vec:
    return pc.ascii_rtrim(text_of(value), characters=" ").cast(BIN)


@kernel("Trim1Arg")
def _trim(_call: Call, value: Vec) -> Vec:
    return pc.ascii_trim(text_of(value), characters=" ").cast(BIN)


def _trim_side(value: bytes, remove: bytes, side: int) -> bytes:
    while remove and side in (0, 1, 2) and value.startswith(remove):
        value = value[len(remove) :]
    while remove and side in (0, 1, 3) and value.endswith(remove):
        value = value[: -len(remove)]
    return value


@kernel("Trim2Args")
def _trim2(call: Call, value: Vec, remove: Vec) -> Vec:
    return map_rows(call, lambda v, r: _trim_side(v, r, 1), BIN, value, remove)


@kernel("Trim3Args")
def _trim3(call: Call, value: Vec, remove: Vec, side: Vec) -> Vec:
    return map_rows(call, _trim_side, BIN, value, remove, side)


def substring(text: Any, position: int, length: int | None = None) -> Any:
    """SUBSTRING with MySQL's positions: from 1, negative from the end, 0 gives nothing."""
    if position < 0:
        position += len(text) + 1
        if position <= 0:
            return text[:0]
    if position == 0 or (length is not None and length <= 0):
        return text[:0]
    return text[position - 1 :] if length is None else text[position - 1 : position - 1 + length]


def _on_text(function: Callable[..., str]) -> Callable[..., bytes]:
    return lambda value, *rest: function(value.decode(errors="replace"), *rest).encode()


@kernel("Substring2ArgsUTF8", "Substring3ArgsUTF8")
def _substring_utf8(call: Call, value: Vec, *where: Vec) -> Vec:
    if all(isinstance(w, _pyarrow.Scalar) and w.is_valid for w in where) and where[0].as_py() > 0:
        start = where[0].as_py() - 1
        stop = start + max(0, where[1].as_py()) if len(where) > 1 else None
        return pc.utf8_slice_codeunits(text_of(value), start, stop).cast(BIN)
    return map_rows(call, _on_text(substring), BIN, value, *[ints(w) for w in where])


@kernel("Substring2Args", "Substring3Args")
def _substring(call: Call, value: Vec, *where: Vec) -> Vec:
    return map_rows(call, substring, BIN, value, *[ints(w) for w in where])


@kernel("LeftUTF8")
def _left_utf8(call: Call, value: Vec, count: Vec) -> Vec:
    return map_rows(call, _on_text(lambda v, n: v[: max(0, n)]), BIN, value, ints(count))


@kernel("Left")
def _left(call: Call, value: Vec, count: Vec) -> Vec:
    return map_rows(call, lambda v, n: v[: max(0, n)], BIN, value, ints(count))


@kernel("RightUTF8")
def _right_utf8(call: Call, value: Vec, count: Vec) -> Vec:
    return map_rows(call, _on_text(lambda v, n: v[-n:] if n > 0 else ""), BIN, value, ints(count))


@kernel("Right")
def _right(call: Call, value: Vec, count: Vec) -> Vec:
    return map_rows(call, lambda v, n: v[-n:] if n > 0 else b"", BIN, value, ints(count))


@kernel("Reverse")
def _reverse(call: Call, value: Vec) -> Vec:
    return map_rows(call, lambda v: v[::-1], BIN, value)


@kernel("Replace")
def _replace(call: Call, value: Vec, old: Vec, new: Vec) -> Vec:
    return map_rows(call, lambda v, a, b: v.replace(a, b) if a else v, BIN, value, old, new)


@kernel("Repeat")
def _repeat(call: Call, value: Vec, count: Vec) -> Vec:
    return map_rows(call, lambda v, n: v * max(0, min(n, (64 << 20) // max(1, len(v)))), BIN, value, ints(count))


@kernel("Space")
def _space(call: Call, count: Vec) -> Vec:
    return map_rows(call, lambda n: b" " * max(0, min(n, 64 << 20)), BIN, ints(count))


def _pad(value: Any, width: int, pad: Any, *, left: bool) -> Any:
    if width < 0 or (width > len(value) and not pad) or width > 16 << 20:
        return None
    missing = width - len(value)
    if missing <= 0:
        return value[:width]
    filler = (pad * (missing // len(pad) + 1))[:missing]
    return filler + value if left else value + filler


def _pad_text(value: bytes, width: int, pad: bytes, *, left: bool) -> bytes | None:
    out = _pad(value.decode(errors="replace"), width, pad.decode(errors="replace"), left=left)
    return None if out is None else str(out).encode()


for _name, _is_left in (("Lpad", True), ("Rpad", False)):
    kernel(f"{_name}UTF8")(
        lambda call, v, n, p, _left=_is_left: map_rows(
            call, lambda a, b, c: _pad_text(a, b, c, left=_left), BIN, v, ints(n), p
        )
    )
    kernel(_name)(
        lambda call, v, n, p, _left=_is_left: map_rows(
            call, lambda a, b, c: _pad(a, b, c, left=_left), BIN, v, ints(n), p
        )
    )


def _folded(call: Call, value: bytes) -> str:
    text = value.decode(errors="replace")
    return text if is_binary_order(call.collation) else fold(text, call.collation)


@kernel("Locate2ArgsUTF8", "Locate2Args", "Locate3ArgsUTF8", "Locate3Args")
def _locate(call: Call, needle: Vec, value: Vec, *start: Vec) -> Vec:
    def find(n: bytes, v: bytes, at: int = 1) -> int:
        return 0 if at < 1 else _folded(call, v).find(_folded(call, n), at - 1) + 1

    return map_rows(call, find, I64, needle, value, *[ints(s) for s in start])


@kernel("InstrUTF8", "Instr")
def _instr(call: Call, value: Vec, needle: Vec) -> Vec:
    return map_rows(call, lambda v, n: _folded(call, v).find(_folded(call, n)) + 1, I64, value, needle)


@kernel("SubstringIndex")
def _substring_index(call: Call, value: Vec, delimiter: Vec, count: Vec) -> Vec:
    def cut(v: bytes, d: bytes, n: int) -> bytes:
        if not d or not n:
            return b""
        parts = v.split(d)
        return d.join(parts[:n] if n > 0 else parts[n:])

    return map_rows(call, cut, BIN, value, delimiter, ints(count))


@kernel("ASCII")
def _ascii(call: Call, value: Vec) -> Vec:
    return map_rows(call, lambda v: v[0] if v else 0, I64, value)


@kernel("Ord")
def _ord(call: Call, value: Vec) -> Vec:
    return map_rows(call, lambda v: int.from_bytes(v.decode(errors="replace")[:1].encode(), "big"), I64, value)


@kernel("HexStrArg")
def _hex_string(call: Call, value: Vec) -> Vec:
    return map_rows(call, lambda v: v.hex().upper().encode(), BIN, value)


@kernel("HexIntArg")
def _hex_int(call: Call, value: Vec) -> Vec:
    return map_rows(call, lambda v: f"{v & (1 << 64) - 1:X}".encode(), BIN, ints(value))


@kernel("UnHex")
def _unhex(call: Call, value: Vec) -> Vec:
    def convert(v: bytes) -> bytes | None:
        try:
            return bytes.fromhex(("0" * (len(v) % 2)) + v.decode())
        except ValueError:
            return None

    return map_rows(call, convert, BIN, value)


@kernel("Bin")
def _bin(call: Call, value: Vec) -> Vec:
    return map_rows(call, lambda v: f"{v & (1 << 64) - 1:b}".encode(), BIN, ints(value))


@kernel("OctInt")
def _oct(call: Call, value: Vec) -> Vec:
    return map_rows(call, lambda v: f"{v & (1 << 64) - 1:o}".encode(), BIN, ints(value))


@kernel("MD5")
def _md5(call: Call, value: Vec) -> Vec:
    return map_rows(call, lambda v: hashlib.md5(v).hexdigest().encode(), BIN, value)  # noqa: S324 - SQL's MD5()


@kernel("SHA1")
def _sha1(call: Call, value: Vec) -> Vec:
    return map_rows(call, lambda v: hashlib.sha1(v).hexdigest().encode(), BIN, value)  # noqa: S324 - SQL's SHA1()


@kernel("SHA2")
def _sha2(call: Call, value: Vec, bits: Vec) -> Vec:
    names = {0: "sha256", 224: "sha224", 256: "sha256", 384: "sha384", 512: "sha512"}

    def digest(v: bytes, n: int) -> bytes | None:
        return hashlib.new(names[n], v).hexdigest().encode() if n in names else None

    return map_rows(call, digest, BIN, value, ints(bits))


@kernel("CRC32")
def _crc32(call: Call, value: Vec) -> Vec:
    return map_rows(call, zlib.crc32, I64, value)


@kernel("ToBase64")
def _to_base64(call: Call, value: Vec) -> Vec:
    return map_rows(call, base64.b64encode, BIN, value)


@kernel("FromBase64")
def _from_base64(call: Call, value: Vec) -> Vec:
    def decode(v: bytes) -> bytes | None:
        try:
            return base64.b64decode(v)
        except ValueError:
            return None

    return map_rows(call, decode, BIN, value)


@kernel("Strcmp")
def _strcmp(call: Call, left: Vec, right: Vec) -> Vec:
    def compare(a: bytes, b: bytes) -> int:
        ka, kb = sort_key(a, call.collation), sort_key(b, call.collation)
        return (ka > kb) - (ka < kb)

    return map_rows(call, compare, I64, left, right)


@kernel("FindInSet")
def _find_in_set(call: Call, value: Vec, items: Vec) -> Vec:
    def find(v: bytes, s: bytes) -> int:
        parts = s.split(b",") if s else []
        return parts.index(v) + 1 if v in parts else 0

    return map_rows(call, find, I64, value, items)


@kernel("FieldString", "FieldInt", "FieldReal")
def _field(_call: Call, value: Vec, *items: Vec) -> Vec:
    result: Vec = pa.scalar(0, I64)
    value = ints(value)
    for i in range(len(items), 0, -1):
        same = pc.fill_null(pc.equal(value, ints(items[i - 1])), FALSE)
        result = pc.if_else(same, pa.scalar(i, I64), result)
    return result


@kernel("Elt")
def _elt(_call: Call, index: Vec, *items: Vec) -> Vec:
    index = ints(index)
    result: Vec = pa.scalar(None, BIN)
    for i, item in enumerate(items, 1):
        result = pc.if_else(pc.fill_null(pc.equal(index, i), FALSE), item, result)
    return result


@kernel("Insert", "InsertUTF8")
def _insert(call: Call, value: Vec, position: Vec, length: Vec, new: Vec) -> Vec:
    def splice(v: bytes, p: int, n: int, s: bytes) -> bytes:
        text = v.decode(errors="replace")
        if not 1 <= p <= len(text):
            return v
        end = len(text) if n < 0 or p - 1 + n > len(text) else p - 1 + n
        return (text[: p - 1] + s.decode(errors="replace") + text[end:]).encode()

    return map_rows(call, splice, BIN, value, ints(position), ints(length), new)


@kernel("Format")
def _format(call: Call, value: Vec, digits: Vec) -> Vec:
    def show(v: bytes, n: int) -> bytes:
        number = Decimal(v.decode()).quantize(Decimal(1).scaleb(-max(0, min(n, 30))), ROUND_HALF_UP)
        return f"{number:,f}".encode()

    return map_rows(call, show, BIN, to_text(value, call.arg_type(0)), ints(digits))


@kernel("Quote")
def _quote(call: Call, value: Vec) -> Vec:
    table = bytes.maketrans(b"", b"")

    def quote(v: bytes) -> bytes:
        v = v.translate(table).replace(b"\\", b"\\\\").replace(b"'", b"\\'").replace(b"\0", b"\\0")
        return b"'" + v.replace(b"\x1a", b"\\Z") + b"'"

    return map_rows(call, quote, BIN, value)


@kernel("Char")
def _char(call: Call, *codes: Vec) -> Vec:
    numbers = codes[:-1] if len(codes) > 1 and not pa.types.is_integer(codes[-1].type) else codes

    def build(*values: int) -> bytes:
        return b"".join(v.to_bytes(max(1, (v.bit_length() + 7) // 8), "big") for v in values)

    return map_rows(call, build, BIN, *[ints(code) for code in numbers])


def like_pattern(pattern: bytes, escape: bytes) -> str:
    """A LIKE pattern as a regular expression."""
    out, text, mark = [], pattern.decode(errors="replace"), escape.decode(errors="replace")
    i = 0
    while i < len(text):
        c = text[i]
        if c == mark and i + 1 < len(text):
            i += 1
            out.append(re.escape(text[i]))
        elif c == "%":
            out.append("(?s:.*)")
        elif c == "_":
            out.append("(?s:.)")
        else:
            out.append(re.escape(c))
        i += 1
    return "^(?:" + "".join(out) + ")$"


@kernel("LikeSig", "IlikeSig")
def _like(call: Call, value: Vec, pattern: Vec, *escape: Vec) -> Vec:
    mark = escape[0].as_py() if escape and isinstance(escape[0], _pyarrow.Scalar) else 92
    escape_byte = bytes([mark]) if isinstance(mark, int) else b"\\"
    ignore_case = not is_binary_order(call.collation) or call.node.name == "IlikeSig"
    if not isinstance(pattern, _pyarrow.Scalar):
        flags = re.IGNORECASE if ignore_case else 0

        def match(v: bytes, p: bytes) -> bool:
            return re.match(like_pattern(p, escape_byte), v.decode(errors="replace"), flags) is not None

        return map_rows(call, match, pa.bool_(), value, pattern)
    if not pattern.is_valid:
        return pa.scalar(None, pa.bool_())
    raw = pattern.as_py()
    if escape_byte not in raw and b"_" not in raw and not ignore_case:
        body = raw.strip(b"%")
        if b"%" not in body:
            return _like_plain(value, raw, body)
    if escape_byte not in raw or escape_byte == b"\\":
        return pc.match_like(text_of(value), raw.decode(errors="replace"), ignore_case=ignore_case)
    regex = like_pattern(raw, escape_byte)
    return pc.match_substring_regex(text_of(value), regex, ignore_case=ignore_case)


def _like_plain(value: Vec, raw: bytes, body: bytes) -> Vec:
    if raw == body:
        return pc.equal(value, pa.scalar(raw, BIN))
    if not raw.endswith(b"%"):
        return pc.ends_with(value, pattern=body)
    if not raw.startswith(b"%"):
        return pc.starts_with(value, pattern=body)
    return pc.match_substring(value, pattern=body)


@kernel("RegexpSig", "RegexpUTF8Sig", "RegexpLikeSig", "RegexpLikeUTF8Sig")
def _regexp(call: Call, value: Vec, pattern: Vec, *_mode: Vec) -> Vec:
    ignore_case = not is_binary_order(call.collation)
    if isinstance(pattern, _pyarrow.Scalar):
        if not pattern.is_valid:
            return pa.scalar(None, pa.bool_())
        try:
            return pc.match_substring_regex(text_of(value), pattern.as_py().decode(), ignore_case=ignore_case)
        except _pyarrow.ArrowInvalid as error:
            raise InvalidArgument(f"Got error '{error}' from regexp") from error
    flags = re.IGNORECASE if ignore_case else 0
    return map_rows(
        call,
        lambda v, p: re.search(p.decode(), v.decode(errors="replace"), flags) is not None,
        pa.bool_(),
        value,
        pattern,
    )


@kernel("UUID")
def _uuid(call: Call) -> Vec:
    return pa.array([str(uuid.uuid4()).encode() for _ in range(call.rows)], BIN)
