"""What happened in a run, in virtual time: hashed for the proof of determinism, kept for whoever has to read a failure.

One event is one line: time, where (store or client), region, what. Raw logs have more and say less.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field

TAIL = 60  # events shown of a failure


@dataclass
class Trace:
    """The events of one run."""

    echo: bool = False
    """Print every event as it comes."""
    lines: list[str] = field(default_factory=list)

    def note(self, text: str, *, where: str = "", region: int = 0) -> None:
        """Something happened now."""
        place = f"{where or '-':<8} {f'region {region}' if region else '':<10}"
        line = f"{asyncio.get_running_loop().time():10.6f} {place} {text}"
        self.lines.append(line)
        if self.echo:
            print(line)

    def hexdigest(self) -> str:
        """The hash of all events."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()

    def tail(self, count: int = TAIL) -> str:
        """The last events, a line each."""
        left = len(self.lines) - count
        earlier = [f"... {left} earlier events (--trace shows them)"] if left > 0 else []
        return "\n".join([*earlier, *self.lines[-count:]])
