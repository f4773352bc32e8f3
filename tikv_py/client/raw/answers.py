"""What raw commands answer: results, and refusals in whatever field a response has for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tikv_py.client.errors import RawError

Pair = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class RawChecksum:
    """CRC-64/XZ of each key followed by its value, all of them combined by exclusive or."""

    crc64_xor: int
    total_kvs: int
    total_bytes: int
    """Of keys and values."""

    def plus(self, response: Any) -> RawChecksum:
        """With one region's part."""
        return RawChecksum(
            self.crc64_xor ^ response.checksum,
            self.total_kvs + response.total_kvs,
            self.total_bytes + response.total_bytes,
        )


def check_response(name: str, response: Any) -> None:
    """Raise RawError for a refusal: in `error`, or in a pair where a response has no such field."""
    text = getattr(response, "error", "")
    if not text:
        pairs: Any = getattr(response, "pairs", ()) or getattr(response, "kvs", ())
        for pair in pairs:
            if pair.HasField("error"):
                text = pair.error.abort or str(pair.error).strip()
                break
    if text:
        raise RawError(f"{name}: {text}")
