"""Keeping libraries out of a server that it does not use.

pyarrow imports pandas, when that is installed, to look whether an argument is one of its types. No server here passes any,
and pandas costs forty megabytes. A process that is a server from its first line says so here; a library must not.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

UNUSED = frozenset({"pandas"})


class _Refuser(MetaPathFinder):
    """Answers for the refused names as if they were not installed."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Raise for a refused name, know nothing of any other."""
        if fullname in UNUSED:
            raise ModuleNotFoundError(f"{fullname} is not used by this server", name=fullname)


def refuse_unused() -> None:
    """Make later imports of `UNUSED` fail; what is imported already stays."""
    sys.meta_path.insert(0, _Refuser())
