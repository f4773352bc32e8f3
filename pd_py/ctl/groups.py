"""Command groups that can be used without a subcommand: `store`, `store 1` and `store delete 1` are all said."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

DEFAULT = "show-one"


class ShowsByDefault(TyperGroup):
    """A group whose command `show-one` gets what does not begin with a subcommand."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command before anything that is no command."""
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = [DEFAULT, *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed
