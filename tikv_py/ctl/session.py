"""What every command gets: which store was meant, and how to print. Opens the store for one command, closes it again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import typer

from core_py.errors import DbError
from core_py.runtime import cli
from core_py.runtime.grpc_transport import GrpcTransport
from tikv_py.ctl import render
from tikv_py.ctl.local import LocalTarget
from tikv_py.ctl.remote import RemoteTarget
from tikv_py.ctl.target import Target, WrongMode

T = TypeVar("T", RemoteTarget, LocalTarget)


@dataclass(frozen=True, slots=True)
class Session:
    """The options before the command."""

    host: str | None
    data_dir: str | None
    as_json: bool

    def run(self, work: Callable[[Target], Awaitable[None]]) -> None:
        """A command for both modes."""
        self._run(self._open, work)

    def run_remote(self, what: str, work: Callable[[RemoteTarget], Awaitable[None]]) -> None:
        """A command that only a running store can serve."""
        self._run(lambda: self._only(RemoteTarget, what, "a running store: use --host"), work)

    def run_local(self, what: str, work: Callable[[LocalTarget], Awaitable[None]]) -> None:
        """A command for a stopped store only."""
        self._run(lambda: self._only(LocalTarget, what, "a stopped store: use --data-dir"), work)

    def _open(self) -> RemoteTarget | LocalTarget:
        if (self.host is None) == (self.data_dir is None):
            raise WrongMode("name one store: --host ADDRESS of a running one, or --data-dir DIRECTORY of a stopped one")
        return RemoteTarget(GrpcTransport(), self.host) if self.host else LocalTarget.open(self.data_dir or "")

    def _only(self, kind: type[T], what: str, wanted: str) -> T:
        right = self.host if kind is RemoteTarget else self.data_dir
        if right is None and (self.host or self.data_dir):
            raise WrongMode(f"{what} needs {wanted}")
        target = self._open()
        assert isinstance(target, kind)
        return target

    def _run(self, open_target: Callable[[], Any], work: Callable[[Any], Awaitable[None]]) -> None:
        async def main() -> None:
            target = open_target()
            try:
                await work(target)
            finally:
                await target.close()

        try:
            asyncio.run(main())
        except DbError as error:
            cli.fail(error)

    def show(self, value: Any, text: str) -> None:
        """Print an answer, one line of JSON or the text."""
        typer.echo(render.as_json(value) if self.as_json else text)


def session_of(context: typer.Context) -> Session:
    """The session of a command."""
    session = context.find_object(Session)
    assert session is not None
    return session
