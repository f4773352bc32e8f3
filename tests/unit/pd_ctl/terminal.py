"""`pd-py ctl` against a member's real HTTP application: the command line runs in a thread, the application on the test's loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from pd_py.ctl.app import app
from tests.unit.pd_api.member import Member, serving


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """The JSON on stdout."""
        assert self.code == 0, self.err
        return json.loads(self.out)


class Terminal:
    """Runs command lines against one URL."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def __call__(self, *arguments: str, stdin: str | None = None) -> Said:
        """Run a command line: words, or one text that is split at spaces."""
        words = arguments[0].split() if len(arguments) == 1 else list(arguments)
        command = ["-u", self.url, *words]
        result = await asyncio.to_thread(CliRunner().invoke, app, command, input=stdin)
        return Said(result.exit_code, result.stdout, result.stderr)


@asynccontextmanager
async def at(member: Member) -> AsyncIterator[Terminal]:
    """A terminal at a member."""
    async with serving(member) as client:
        yield Terminal(str(client.make_url("/")))
