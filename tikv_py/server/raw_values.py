"""How raw values are stored, and what a raw command may hold.

A store is of one API version for all its life with data. With V1 a value is stored as it is. With V1TTL
(`storage.enable-ttl`) every value is followed by 8 bytes, big-endian: the second since the epoch from which on it is expired, 0 for
never. Expired values are invisible at once, and removed later by `tikv_py.server.raw_ttl`. What time it is, is asked once per
request, so that a request sees all its keys at one moment.

A V1TTL store serves no transactions, because their values have no such end: `tikv_py.server.dispatch` refuses them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from core_py.errors import DataCorruption
from core_py.ports import Clock
from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.engine.port import CF_DEFAULT, CF_LOCK, CF_WRITE, Pair
from tikv_py.errors import ApiVersionNotMatched, KeyTooLarge, Refused

EXPIRY_BYTES = 8
EXPIRY_MAX_S = (1 << 64) - 1
BATCH_KEYS_MAX = 1 << 16  # of one batch command
RANGES_MAX = 1 << 12  # of one command
VERSION_NAMES = {pb.V1: "V1", pb.V1TTL: "V1ttl", pb.V2: "V2"}
_FAMILIES = {"": CF_DEFAULT, "default": CF_DEFAULT, "lock": CF_LOCK, "write": CF_WRITE}


class UnknownFamily(Refused):
    """A request names a column family that raw data cannot be in."""

    code = "KV:Storage:InvalidCf"


class TtlNotEnabled(Refused):
    """A time to live on a store whose values have none."""

    code = "KV:Storage:TtlNotEnabled"

    def __init__(self) -> None:
        super().__init__("ttl is not enabled, but get put request with ttl")


class TtlCountWrong(Refused):
    """A batch with neither one time to live for all nor one for each pair."""

    code = "KV:Storage:TtlLenNotEqualsToPairs"

    def __init__(self) -> None:
        super().__init__("The length of ttls does not equal to the length of pairs")


class BatchTooLarge(Refused):
    """More keys or ranges than one command may hold."""

    code = "KV:Storage:BatchTooLarge"


def family(name: str) -> str:
    """The engine's family for the wire's name. Raises UnknownFamily."""
    cf = _FAMILIES.get(name)
    if cf is None:
        raise UnknownFamily(f"invalid cf name: {name}")
    return cf


def check_batch(count: int, limit: int = BATCH_KEYS_MAX) -> None:
    """Raise BatchTooLarge for more than `limit` keys or ranges."""
    if count > limit:
        raise BatchTooLarge(f"{count} keys or ranges in one command, {limit} are allowed")


class RawValues:
    """The format of one store's raw values, and the limit of its keys."""

    def __init__(self, clock: Clock, *, ttl: bool, max_key_bytes: int) -> None:
        self.ttl = ttl
        """Whether values carry the time of their expiry."""
        self.condemned: set[bytes] = set()
        """Engine keys that are about to be removed as expired, unless somebody writes them meanwhile."""
        self._clock = clock
        self._max_key_bytes = max_key_bytes

    def check_version(self, context: pb.Context, command: str) -> None:
        """Raise ApiVersionNotMatched for anything but V1, which clients of V1TTL stores say too."""
        if context.api_version != pb.V1:
            storage = VERSION_NAMES[pb.V1TTL if self.ttl else pb.V1]
            asked = VERSION_NAMES.get(context.api_version, str(context.api_version))
            raise ApiVersionNotMatched(command, storage, asked)

    def check_keys(self, keys: Iterable[bytes]) -> None:
        """Raise KeyTooLarge for keys that may not be written."""
        longest = max(map(len, keys), default=0)
        if longest > self._max_key_bytes:
            raise KeyTooLarge(longest, self._max_key_bytes)

    def now_s(self) -> int:
        """Seconds since the epoch by which a request judges expiry; not asked for where nothing expires."""
        return self._clock.wall_ms() // 1000 if self.ttl else 0

    def stored(self, value: bytes, ttl_s: int, now_s: int) -> bytes:
        """What is written for a value that lives `ttl_s` seconds (0: for ever). Raises TtlNotEnabled."""
        if not self.ttl:
            if ttl_s:
                raise TtlNotEnabled
            return value
        expiry_s = min(now_s + ttl_s, EXPIRY_MAX_S) if ttl_s else 0
        return value + expiry_s.to_bytes(EXPIRY_BYTES, "big")

    def live(self, stored: bytes | None, now_s: int) -> bytes | None:
        """The user's value, or None if there is none any more. Raises DataCorruption for what no such store wrote."""
        if not self.ttl or stored is None:
            return stored
        expiry_s = expiry_of(stored)
        return None if 0 < expiry_s <= now_s else stored[:-EXPIRY_BYTES]

    def live_pairs(self, pairs: Sequence[Pair], now_s: int) -> list[Pair]:
        """The pairs that are not expired, with the users' values."""
        if not self.ttl:
            return list(pairs)
        out = []
        for key, stored in pairs:
            value = self.live(stored, now_s)
            if value is not None:
                out.append((key, value))
        return out

    def ttl_left_s(self, stored: bytes | None, now_s: int) -> int | None:
        """Seconds left to live (0: for ever), None for a value that is not there. Raises TtlNotEnabled."""
        if not self.ttl:
            raise TtlNotEnabled
        if stored is None:
            return None
        expiry_s = expiry_of(stored)
        if expiry_s == 0:
            return 0
        return expiry_s - now_s if expiry_s > now_s else None

    def ttls_of(self, ttls: Sequence[int], pairs: int) -> Sequence[int]:
        """One time to live for each pair of a batch. Raises TtlNotEnabled, TtlCountWrong."""
        if not self.ttl:
            if any(ttls):
                raise TtlNotEnabled
            return [0] * pairs
        if len(ttls) == pairs:
            return ttls
        if len(ttls) <= 1:
            return [ttls[0] if ttls else 0] * pairs
        raise TtlCountWrong


def expiry_of(stored: bytes) -> int:
    """The second from which on a stored value is expired; 0: never. Raises DataCorruption."""
    if len(stored) < EXPIRY_BYTES:
        raise DataCorruption(f"a stored raw value of {len(stored)} bytes has no time of expiry")
    return int.from_bytes(stored[-EXPIRY_BYTES:], "big")
