"""Collations: a key for each string whose byte order is the collation's order.

utf8mb4_bin and the ci collations of old ignore trailing spaces (PAD SPACE); `binary` and the 0900 family do not. The ci
keys fold case, and the 0900 and unicode ones also drop accents; that is MySQL's order for Latin, Greek and Cyrillic
text, not the full weight tables of the Unicode collation algorithm.
"""

from __future__ import annotations

import unicodedata

from core_py.vector.arrow import Vec, pa, pc
from core_py.vector.fieldtype import BINARY_COLLATION

_CI = frozenset({33, 45, 192, 224, 255, 8, 28, 248})
_ACCENTS = frozenset({192, 224, 255})
_NO_PAD = frozenset({BINARY_COLLATION, 255, 309})
NAMES = {
    63: "binary", 46: "utf8mb4_bin", 45: "utf8mb4_general_ci", 224: "utf8mb4_unicode_ci", 255: "utf8mb4_0900_ai_ci",
    309: "utf8mb4_0900_bin", 83: "utf8_bin", 33: "utf8_general_ci", 192: "utf8_unicode_ci", 47: "latin1_bin",
    65: "ascii_bin", 8: "latin1_swedish_ci",
}  # fmt: skip
IDS = {name: number for number, name in NAMES.items()}
CHARSETS = {number: name.split("_")[0].replace("utf8mb3", "utf8") for number, name in NAMES.items()}


def is_binary_order(collation: int) -> bool:
    """Whether strings that differ in any byte but trailing spaces differ."""
    return abs(collation) not in _CI


def fold(text: str, collation: int) -> str:
    """The case- and accent-insensitive form of one string."""
    if abs(collation) in _ACCENTS:
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return text.upper()


def sort_key(value: bytes, collation: int) -> bytes:
    """The key of one string."""
    collation = abs(collation)
    if collation not in _NO_PAD:
        value = value.rstrip(b" ")
    if collation in _CI:
        return fold(value.decode(errors="replace"), collation).encode()
    return value


def sort_keys(values: Vec, collation: int) -> Vec:
    """The keys of many strings (or of one scalar)."""
    collation = abs(collation)
    if isinstance(values, pa.Scalar):
        raw = values.as_py()
        return values if raw is None else pa.scalar(sort_key(raw, collation), pa.large_binary())
    if collation == BINARY_COLLATION or not len(values):
        return values
    if collation in _CI:
        unique = values.dictionary_encode()
        keys = [None if v is None else sort_key(v, collation) for v in unique.dictionary.to_pylist()]
        return pa.array(keys, pa.large_binary()).take(unique.indices)
    if collation in _NO_PAD:
        return values
    if pc.any(pc.ends_with(values, b" ")).as_py():
        return _rtrim(values)
    return values


def _rtrim(values: Vec) -> Vec:
    return pc.ascii_rtrim(values.view(pa.large_utf8()), characters=" ").view(pa.large_binary())
