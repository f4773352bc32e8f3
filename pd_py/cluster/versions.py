"""Versions of stores and of the cluster: the lowest version of its stores, which decides what the cluster may be asked to do.
Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from core_py.errors import PdError

_FORM = re.compile(r"v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?\Z")
MAX_CHARS = 128


@dataclass(frozen=True, slots=True)
class Version:
    """major.minor.patch, perhaps a pre-release such as alpha or beta.1."""

    major: int
    minor: int
    patch: int
    pre: str = ""

    @staticmethod
    def parse(text: str) -> Version:
        """Read a version; an empty text is 0.0.0, a build's suffix counts for nothing. Raises PdError."""
        if not text:
            return Version(0, 0, 0)
        found = _FORM.match(text) if len(text) <= MAX_CHARS else None
        if found is None:
            raise PdError(f"{text[:MAX_CHARS]} is not in dotted-tri format")
        return Version(int(found[1]), int(found[2]), int(found[3]), found[4] or "")

    def __str__(self) -> str:
        base = f"{self.major}.{self.minor}.{self.patch}"
        return f"{base}-{self.pre}" if self.pre else base

    def __lt__(self, other: Version) -> bool:
        return self._order() < other._order()

    def _order(self) -> tuple[int, int, int, bool, list[tuple[bool, int, str]]]:
        """A pre-release comes before its release; numbers in it come before words."""
        parts = [
            (not part.isdigit(), int(part) if part.isdigit() else 0, "" if part.isdigit() else part)
            for part in self.pre.split(".")
            if part
        ]
        return (self.major, self.minor, self.patch, not self.pre, parts)

    def admits(self, store: Version) -> bool:
        """Whether a store of that version may join a cluster of this version."""
        return self < store or (self.major, self.minor) == (store.major, store.minor)
