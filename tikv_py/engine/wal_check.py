"""Looking over RocksDB's write-ahead logs before it opens them: a torn end is normal, a hole in the middle is lost data.

After a loss of power a log may end in the middle of a record, or in zeros: what was not synced. RocksDB's point-in-time recovery
goes up to there, which is right. But it does the same at damage in the middle of a log, and so would silently forget
everything behind it, although it was synced: votes and entries that others rely on. Its stricter modes refuse that, but
also spin for ever on a log out of which bytes are missing. So the records' headers are walked here first.

A log consists of blocks of 32 KiB; a record's header is a checksum (4 bytes), a length (2) and a type (1), in newer forms
followed by a number (4); a record that does not fit its block goes on in the next. Checksums are left to RocksDB.
"""

from __future__ import annotations

from pathlib import Path

from core_py.errors import DataCorruption

BLOCK_BYTES = 32 << 10
_HEADER_BYTES = 7
_NUMBERED_HEADER_BYTES = 11
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_NUMBERED = 4  # types 5 to 8 are 1 to 4 with a number
_META = frozenset({9, 10, 11, 130, 131})  # what a log says about itself


def check_logs(directory: Path) -> int:
    """Walk all logs of a database and return their bytes. Raises DataCorruption for the first one with a hole."""
    total = 0
    for path in sorted(directory.glob("*.log")):
        data = path.read_bytes()
        total += len(data)
        at = first_damage(data)
        if at is not None:
            raise DataCorruption(
                f"write-ahead log {path} is damaged at byte {at} of {len(data)}: more was written behind it, which cannot"
                " be read; replace this store (a new one gets its data from the others), or restore its files"
            )
    return total


def first_damage(data: bytes) -> int | None:
    """Where a log has no record although more follows, or None for a log that is whole up to a torn end."""
    at, size = 0, len(data)
    inside = False
    while at < size:
        block_end = at - at % BLOCK_BYTES + BLOCK_BYTES
        if block_end - at < _HEADER_BYTES:
            at = block_end
            continue
        if size - at < _HEADER_BYTES:
            return None  # torn inside a header
        length, kind = data[at + 4] | data[at + 5] << 8, data[at + 6]
        if kind == 0 and length == 0:
            return None if not data[at:].strip(b"\0") else at
        numbered = _NUMBERED < kind <= 2 * _NUMBERED
        if not numbered and kind > _NUMBERED and kind not in _META:
            return at
        end = at + (_NUMBERED_HEADER_BYTES if numbered else _HEADER_BYTES) + length
        if end > block_end:
            return at
        if end > size:
            return None  # torn inside a record
        part = kind - _NUMBERED if numbered else kind
        if kind not in _META:
            if inside != (part in (_MIDDLE, _LAST)):
                return at
            inside = part in (_FIRST, _MIDDLE)
        at = end
    return None
