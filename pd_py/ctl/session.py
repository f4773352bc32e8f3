"""What every command gets: whom to ask, and how to print."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote

import typer

from core_py.errors import DbError
from core_py.runtime import cli
from pd_py.ctl import render
from pd_py.ctl.client import BadArgument, PdHttp, TlsFiles


class Output(enum.Enum):
    """How answers are printed."""

    JSON = "json"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Session:
    """The options before the command."""

    urls: tuple[str, ...]
    tls: TlsFiles
    output: Output

    def _do(self, work: Callable[[PdHttp], Any]) -> Any:
        try:
            return work(PdHttp(self.urls, self.tls))
        except DbError as error:
            cli.fail(error)

    def ask(self, path: str, body: Any = None, *, has_body: bool = False) -> Any:
        """The answer to a GET."""
        return self._do(lambda http: http.request("GET", path, body, has_body=has_body))

    def show(self, path: str, body: Any = None, *, has_body: bool = False) -> None:
        """Print the answer to a GET."""
        self.print(self.ask(path, body, has_body=has_body))

    def print(self, value: Any) -> None:
        """Print a value."""
        typer.echo(render.as_json(value) if self.output is Output.JSON else render.as_table(value))

    def post(self, path: str, body: Any) -> None:
        """Change something, and say that it was done."""
        _success(self._do(lambda http: http.request("POST", path, body, has_body=True)))

    def post_nothing(self, path: str) -> None:
        """A POST without a body."""
        _success(self._do(lambda http: http.request("POST", path)))

    def patch(self, path: str, body: Any) -> None:
        """Change parts of something."""
        _success(self._do(lambda http: http.request("PATCH", path, body, has_body=True)))

    def delete(self, path: str, body: Any = None, *, has_body: bool = False) -> None:
        """Take something away, and say that it was done."""
        _success(self._do(lambda http: http.request("DELETE", path, body, has_body=has_body)))


def _success(answer: Any) -> None:
    if isinstance(answer, dict | list):
        typer.echo(render.as_json(answer))
    typer.echo(f"Success! {answer}" if isinstance(answer, str) and answer else "Success!")


def session_of(context: typer.Context) -> Session:
    """The session of a command."""
    session = context.find_object(Session)
    assert session is not None
    return session


def fail(message: str) -> NoReturn:
    """End with one line on stderr and exit code 1."""
    cli.fail(BadArgument(message))


def whole(text: str, what: str) -> int:
    """A number that is not negative; ends the command otherwise."""
    if not text.isascii() or not text.isdigit():
        fail(f"{what} should be a number")
    return int(text)


def positive(text: str, what: str) -> float:
    """A number above zero; ends the command otherwise."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        fail(f"{what} should be a number that > 0.")
    return value


def part(text: str) -> str:
    """A name as a part of a path."""
    return quote(text, safe="")
