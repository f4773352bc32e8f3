"""The unified log format, byte for byte where tools read it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator

import pytest
import structlog

from core_py.runtime import log

LINE = re.compile(
    r"^\[\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d\d:\d\d\] \[(?P<level>[A-Z]+)\] \[[a-z_]+\.py:\d+\]"
    r" \[(?P<message>\".*?\")\](?P<fields>.*)$"
)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    yield io.StringIO()
    structlog.reset_defaults()


def written(stream: io.StringIO) -> re.Match[str]:
    match = LINE.match(stream.getvalue().split("\n")[0])
    assert match, stream.getvalue()
    return match


def test_a_line(lines: io.StringIO) -> None:
    log.setup(log.LogConfig(), lines)
    log.get_logger(store=3).warn("region split", region=7, epoch="1,4", text='say "hi" [now]', empty="")
    match = written(lines)
    assert (match["level"], match["message"]) == ("WARN", '"region split"')
    assert match["fields"] == r' [store=3] [region=7] [epoch=1,4] [text="say \"hi\" [now]"] [empty=""]'


def test_one_event_is_one_line_whatever_it_holds(lines: io.StringIO) -> None:
    log.setup(log.LogConfig(), lines)
    log.get_logger().info("two\nlines", key=b"\x00\xff", note="a\nb")
    assert lines.getvalue().count("\n") == 1
    assert '["two\\nlines"] [key=00ff] [note="a\\nb"]' in lines.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
def test_user_data_is_redacted(lines: io.StringIO, form: str) -> None:
    log.setup(log.LogConfig(format=form, redact_info_log=True), lines)
    log.get_logger().info("slow", sql="select 'secret'", key=b"secret", region=7)
    assert "secret" not in lines.getvalue()
    assert "7" in lines.getvalue()


def test_json_lines(lines: io.StringIO) -> None:
    log.setup(log.LogConfig(format="json"), lines)
    try:
        raise ValueError("broken")
    except ValueError:
        log.get_logger().error("failed", region=7, name="x", exc_info=True)
    event = json.loads(lines.getvalue())
    assert (event["level"], event["message"], event["region"], event["name"]) == ("ERROR", "failed", 7, "x")
    assert "ValueError: broken" in event["exception"]


def test_levels(lines: io.StringIO) -> None:
    log.setup(log.LogConfig(level="warn"), lines)
    log.get_logger().info("quiet")
    log.get_logger().error("loud")
    assert "quiet" not in lines.getvalue()
    assert written(lines)["level"] == "ERROR"


def test_the_level_changes_while_loggers_are_in_use(lines: io.StringIO) -> None:
    log.setup(log.LogConfig(level="warn"), lines)
    kept = log.get_logger(store=1)
    kept.info("one")
    log.set_level("DEBUG")
    kept.debug("two")
    log.set_level("error")
    kept.warn("three")
    kept.error("four")
    assert [line.split('["')[1].split('"')[0] for line in lines.getvalue().splitlines()] == ["two", "four"]
    with pytest.raises(ValueError, match="none of"):
        log.set_level("loud")


@pytest.mark.parametrize("config", [log.LogConfig(level="loud"), log.LogConfig(format="xml")])
def test_wrong_settings(config: log.LogConfig) -> None:
    with pytest.raises(ValueError, match=r"^log\."):
        config.validate()
