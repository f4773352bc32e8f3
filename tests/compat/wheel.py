"""The two faces of the PyPI wheel, synchronous and asynchronous, behind one: every call returns its result."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any


class Driven:
    """An object of the wheel's asynchronous API, whose coroutines are run to their end on a loop."""

    def __init__(self, target: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._target, self._loop = target, loop

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._target, name)

        def call(*arguments: Any, **named: Any) -> Any:
            result = member(*arguments, **named)
            if inspect.isawaitable(result):
                result = self._loop.run_until_complete(result)
            wraps = type(result).__name__ in ("Transaction", "Snapshot", "RawClient", "TransactionClient")
            return Driven(result, self._loop) if wraps else result

        return call
