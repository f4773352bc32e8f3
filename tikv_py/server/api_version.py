"""What a store of API V1TTL must not serve: its values end with the time of their expiry, those of transactions do not.

Data of both kinds in one store would be taken for expired and removed, so every command that reads or writes the data of
transactions is refused, as the public servers do. Commands about regions and the store's health stay.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tikv_py.errors import ApiVersionNotMatched
from tikv_py.server.dispatch import Command

OF_NO_DATA = frozenset({"SplitRegion", "ReadIndex", "GetHealthFeedback"})


def without_transactions(commands: Mapping[str, Command]) -> dict[str, Command]:
    """The same commands, but each that is about data refuses."""
    return {
        name: command if name in OF_NO_DATA else Command(name, command.response, _refusing(name))
        for name, command in commands.items()
    }


def _refusing(name: str) -> Callable[[Any], Awaitable[Any]]:
    public_name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.removeprefix("Kv").removeprefix("KV")).lower()

    async def refuse(_request: Any) -> Any:
        raise ApiVersionNotMatched(public_name, "V1ttl", "V1")

    return refuse
