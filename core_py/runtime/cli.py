"""What the command lines of all servers share: version, config file check, one clear line for a wrong start."""

from __future__ import annotations

import sys
from importlib.metadata import version as package_version
from typing import NoReturn

from core_py.errors import DbError

RELEASE = "v8.5.0-py"


def version_text(server: str) -> str:
    """What --version prints."""
    return f"{server} {RELEASE} (tidb-py {package_version('tidb-py')})"


def fail(error: DbError) -> NoReturn:
    """End the process with the error on one line."""
    print(f"error: {error.message}", file=sys.stderr)  # noqa: T201 a command line's answer
    raise SystemExit(1)
