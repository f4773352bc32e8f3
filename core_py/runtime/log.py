"""The unified log format, the same in all three servers.

    [2020/10/20 11:45:49.539 +08:00] [INFO] [store.rs:42] ["region split"] [region=7] [epoch="1,4"]

Events with bound ids go in (`log = get_logger(); log.info("region split", region=7)`), lines come out. Values are quoted when they
hold anything but plain characters. With redaction on, values under `REDACTED_KEYS` (user data: keys, rows, statements) are
replaced, so that logs can be shared. Files rotate at 300 MB, as the public servers' do.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import re
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import structlog

from core_py.runtime.config import ByteSize

_PLAIN = re.compile(r"^[A-Za-z0-9_.:/@+,-]+$")
REDACTED_KEYS = frozenset({"key", "start_key", "end_key", "value", "sql", "row"})
LEVELS = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40, "fatal": 50}
_NAMES = {10: "DEBUG", 20: "INFO", 30: "WARN", 40: "ERROR", 50: "FATAL"}


@dataclass(frozen=True, slots=True)
class LogFileConfig:
    """`[log.file]`."""

    filename: str = ""
    max_size: int = 300  # MB
    max_backups: int = 10


@dataclass(frozen=True, slots=True)
class LogConfig:
    """`[log]`."""

    level: str = "info"
    format: str = "text"
    redact_info_log: bool = False
    file: LogFileConfig = field(default_factory=LogFileConfig)

    def validate(self) -> None:
        """Raises ValueError for an unknown level or format."""
        if self.level.lower() not in LEVELS:
            raise ValueError(f"log.level {self.level!r} is none of {', '.join(LEVELS)}")
        if self.format not in ("text", "json"):
            raise ValueError(f"log.format {self.format!r} is neither text nor json")


def _quote(value: object) -> str:
    if isinstance(value, bytes):
        value = value.hex()
    text = str(value)
    return text if _PLAIN.match(text) else json.dumps(text, ensure_ascii=False)


class _Render:
    """The last processor: an event dictionary becomes one line."""

    def __init__(self, *, redact: bool, as_json: bool) -> None:
        self._redact = redact
        self._json = as_json

    def __call__(self, _logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        now = datetime.now().astimezone()
        zone = now.strftime("%z")
        stamp = f"{now:%Y/%m/%d %H:%M:%S}.{now.microsecond // 1000:03d} {zone[:3]}:{zone[3:]}"
        message = event.pop("event", "")
        error = event.pop("exception", None)
        where = f"{event.pop('filename', '?')}:{event.pop('lineno', 0)}"
        level = _NAMES[LEVELS.get(method, 40)]
        if self._redact:
            event = {key: "?" if key in REDACTED_KEYS else value for key, value in event.items()}
        if self._json:
            fields = {
                key: value if isinstance(value, int | float | bool) else str(value) for key, value in event.items()
            }
            if error:
                fields["exception"] = error
            return json.dumps(
                {"time": stamp, "level": level, "caller": where, "message": message, **fields}, ensure_ascii=False
            )
        parts = "".join(f" [{key}={_quote(value)}]" for key, value in event.items())
        line = f"[{stamp}] [{level}] [{where}] [{json.dumps(message, ensure_ascii=False)}]{parts}"
        return f"{line}\n{error}" if error else line


class _Writer:
    """Gives structlog a handler's rotation and its write."""

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler

    def msg(self, message: str) -> None:
        """Write one line."""
        self._handler.handle(logging.LogRecord("tidb-py", logging.INFO, "", 0, message, None, None))

    debug = info = warn = warning = error = fatal = critical = exception = msg


class _Threshold:
    """The level of the process's log. Loggers keep their filter once they are used, so what may change is a processor's."""

    level = LEVELS["info"]

    @classmethod
    def drop_below(cls, _logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """The first processor: events below the level go no further."""
        if LEVELS.get(method, LEVELS["error"]) < cls.level:
            raise structlog.DropEvent
        return event


def setup(config: LogConfig, stream: TextIO | None = None) -> None:
    """Configure the process's log once, at start."""
    handler: logging.Handler
    if config.file.filename:
        path = Path(config.file.filename)
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=ByteSize(config.file.max_size << 20), backupCount=config.file.max_backups, encoding="utf-8"
        )
    else:
        handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    writer = _Writer(handler)
    set_level(config.level)
    structlog.configure(
        processors=[
            _Threshold.drop_below,
            structlog.contextvars.merge_contextvars,
            structlog.processors.CallsiteParameterAdder(
                {structlog.processors.CallsiteParameter.FILENAME, structlog.processors.CallsiteParameter.LINENO}
            ),
            structlog.processors.format_exc_info,
            _Render(redact=config.redact_info_log, as_json=config.format == "json"),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(min(LEVELS.values())),
        logger_factory=lambda *_args: writer,
        cache_logger_on_first_use=True,
    )


def set_level(level: str) -> None:
    """Write events from this level on; may be called at any time. Raises ValueError for an unknown level."""
    if level.lower() not in LEVELS:
        raise ValueError(f"log level {level!r} is none of {', '.join(LEVELS)}")
    _Threshold.level = LEVELS[level.lower()]


def get_logger(**bound: object) -> Any:
    """A logger whose lines all carry `bound`."""
    return structlog.get_logger(**bound)
