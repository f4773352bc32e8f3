"""Configuration: public key names, sizes and durations, and messages that name the key and what was meant."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_py.errors import ConfigError
from core_py.runtime.config import ByteSize, Seconds, from_table, load_file


@dataclass(frozen=True, slots=True)
class Inner:
    tick_interval: Seconds = Seconds(1.0)
    cache: ByteSize = ByteSize(1)
    ratio: float = 0.5
    labels: dict[str, str] = field(default_factory=dict)

    def validate(self) -> None:
        if self.ratio > 1:
            raise ValueError("ratio is above 1")


@dataclass(frozen=True, slots=True)
class Outer:
    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset({"old-key"})

    name: str = "x"
    endpoints: tuple[str, ...] = ()
    limit: int | None = None
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("text", "size"),
    [("96MB", 96 << 20), ("4KiB", 4096), (" 1.5 g ", 3 << 29), ("10", 10), (7, 7), ("0", 0), ("2TiB", 2 << 40)],
)
def test_sizes(text: object, size: int) -> None:
    assert ByteSize.parse(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1XB", "1 2", True, -1, 1.5, None])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        ByteSize.parse(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("1m30s", 90), ("500ms", 0.5), ("1h", 3600), ("1.5s", 1.5), (2, 2), ("2d", 172800)],
)
def test_durations(text: object, seconds: float) -> None:
    assert Seconds.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "s", "10 s", "-1s", "1s!", True, -1, None])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        Seconds.parse(text)


@given(st.integers(0, 1 << 50))
def test_plain_numbers_are_bytes(size: int) -> None:
    assert ByteSize.parse(size) == ByteSize.parse(str(size)) == size


def test_a_file_with_flags_on_top(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('name = "file"\nold-key = 1\n[inner]\ntick-interval = "50ms"\nlabels = { zone = "a" }\n')
    config = load_file(Outer, str(path), {"name": "flag", "inner.cache": "1KB", "endpoints": "a:1, b:2", "limit": None})
    assert config == Outer("flag", ("a:1", "b:2"), None, Inner(Seconds(0.05), ByteSize(1024), 0.5, {"zone": "a"}))


def test_labels_from_a_flag() -> None:
    config = load_file(Outer, None, {"inner.labels": "zone=a, host=b=c"})
    assert config.inner.labels == {"zone": "a", "host": "b=c"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"nmae": 1}, "unknown key nmae; the nearest known key is name"),
        (
            {"inner": {"tick-intervall": 1}},
            "unknown key inner.tick-intervall; the nearest known key is inner.tick-interval",
        ),
        ({"zzzz": 1}, "known keys here: endpoints, inner, limit, name, old-key"),
        ({"inner": {"cache": "much"}}, "inner.cache: 'much' is not a size"),
        ({"inner": 3}, "inner: a table is wanted here"),
        ({"name": 3}, "name: 3 is not of type str"),
        ({"limit": True}, "limit: True is not of type int"),
        ({"inner": {"ratio": 2}}, "ratio is above 1"),
        ({"endpoints": [1]}, "a list of texts is wanted here"),
        ({"inner": {"labels": "zone"}}, 'is not of the form "key=value'),
    ],
)
def test_a_wrong_setting_is_named(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_table(Outer, table, where="test")
    assert message in refused.value.message
    assert refused.value.message.startswith("test: ")


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_file(Outer, str(tmp_path / "missing"))
    broken = tmp_path / "broken"
    broken.write_text("a = = 1")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_file(Outer, str(broken))
    broken.write_text('inner = "text"')
    with pytest.raises(ConfigError, match="inner: a table is wanted here"):
        load_file(Outer, str(broken), {"inner.cache": 1})
