"""Commands from a terminal, one line after the other, until `exit` or the end of input."""

from __future__ import annotations

import contextlib
import importlib
import shlex
from collections.abc import Callable, Sequence

import typer

PROMPT = "» "


def loop(run: Callable[[Sequence[str]], object]) -> None:
    """Run each line; a failed one is reported, and the next one read."""
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")  # gives `input` history and editing where it is built in
    while True:
        try:
            line = input(PROMPT)
        except (EOFError, KeyboardInterrupt):
            return
        try:
            arguments = shlex.split(line)
        except ValueError as error:
            typer.echo(f"error: {error}", err=True)
            continue
        if arguments == ["exit"]:
            return
        if arguments:
            with contextlib.suppress(SystemExit):  # how a command line says how it went; the terminal goes on
                run(arguments)
