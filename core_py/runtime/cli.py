"""What the command lines of all servers share: version, configuration, one clear line for a wrong start."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version as package_version
from typing import Any, NoReturn, Protocol, TypeVar

from core_py.errors import DbError
from core_py.runtime import config, lifecycle, log

RELEASE = "v8.5.0-py"


class ServerSettings(Protocol):
    """What every server's configuration has."""

    @property
    def log(self) -> log.LogConfig:
        """`[log]`."""
        ...


S = TypeVar("S", bound=ServerSettings)


def version_text(server: str) -> str:
    """What --version prints."""
    return f"{server} {RELEASE} (tidb-py {package_version('tidb-py')})"


def fail(error: DbError) -> NoReturn:
    """End the process with the error on one line."""
    print(f"error: {error.message}", file=sys.stderr)  # noqa: T201 a command line's answer
    raise SystemExit(1)


def run_server(
    settings_type: type[S],
    config_file: str | None,
    overrides: dict[str, Any],
    make: Callable[[S, lifecycle.Stopper], lifecycle.Server],
    *,
    check_only: bool,
) -> NoReturn:
    """Load the configuration, then check it only, or run the server that `make` builds until it is told to stop."""
    try:
        settings = config.load_file(settings_type, config_file, overrides)
    except DbError as error:
        fail(error)
    if check_only:
        print("config check successful")  # noqa: T201 a command line's answer
        raise SystemExit(0)
    log.setup(settings.log)

    async def build(stopper: lifecycle.Stopper) -> lifecycle.Server:
        return make(settings, stopper)

    raise SystemExit(lifecycle.run(build))
