"""Settings: public names and forms, refusals with the public texts, durability, values for a time."""

from __future__ import annotations

import contextlib
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_py.errors import PdError
from pd_py.cluster.settings import Settings
from pd_py.cluster.settings_items import BY_KEY, InvalidSetting, read_duration, show_duration
from pd_py.schedule.options import ScheduleOptions
from tests.support.dict_metadata import DictMetadata

KEY = "/pd/1/config"


def opened(disk: DictMetadata, **options: Any) -> Settings:
    return Settings(disk, KEY, ScheduleOptions(**options))


def test_defaults_are_those_of_the_options_and_the_file_counts_until_something_is_stored() -> None:
    assert opened(DictMetadata()).options == ScheduleOptions()
    settings = opened(DictMetadata(), max_replicas=5, location_labels=("zone", "host"))
    assert settings.options.max_replicas == 5
    section = settings.section("replication")
    assert section["max-replicas"] == 5
    assert section["location-labels"] == "zone,host"
    assert section["enable-placement-rules"] == "true"
    assert settings.to_json()["schedule"]["max-store-down-time"] == "30m0s"
    assert settings.to_json()["schedule"]["patrol-region-interval"] == "10ms"
    assert settings.to_json()["cluster-version"] == "0.0.0"


async def test_every_form_of_a_name_is_understood_and_kept() -> None:
    disk = DictMetadata()
    settings = opened(disk, max_replicas=5)
    seen: list[tuple[int, int]] = []
    settings.listeners.append(lambda old, new: seen.append((old.leader_schedule_limit, new.leader_schedule_limit)))
    await settings.set({"schedule.leader-schedule-limit": 9.0, "max-snapshot-count": "12"})
    await settings.set({"schedule": {"max-store-down-time": "1h30m", "enable-one-way-merge": "true"}})
    await settings.set({"location-labels": "zone,host", "isolation-level": "zone", "halt-scheduling": True})
    await settings.set({"leader-schedule-limit": 9})
    again = opened(disk)
    assert again.options == settings.options
    assert again.options == ScheduleOptions(
        max_replicas=5,
        leader_schedule_limit=9,
        max_snapshot_count=12,
        max_store_down_time_s=5400.0,
        enable_one_way_merge=True,
        location_labels=("zone", "host"),
        isolation_level="zone",
        halt_scheduling=True,
    )
    assert seen == [(4, 9), (9, 9), (9, 9)]
    assert again.to_json() == settings.to_json()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"no-such": 1}, "config item no-such not found"),
        ({"schedule.no-such": 1}, "config item no-such not found"),
        ({"nowhere.max-replicas": 1}, "config prefix nowhere not found"),
        ({"schedule": {"no-such": 1}}, "config item no-such not found"),
        ({"low-space-ratio": 2}, "low-space-ratio should between 0 and 1"),
        ({"low-space-ratio": 0.5}, "low-space-ratio should be larger than high-space-ratio"),
        ({"tolerant-size-ratio": -1}, "tolerant-size-ratio should be non-negative"),
        ({"leader-schedule-policy": "x"}, "leader-schedule-policy x is invalid"),
        ({"isolation-level": "zone"}, "isolation-level must be one of location-labels or empty"),
        ({"location-labels": "a b"}, "a b does not match format"),
        ({"max-replicas": 0}, "max-replicas should be between 1 and 100"),
        ({"max-replicas": -1}, "input value -1 is illegal"),
        ({"max-replicas": "many"}, "input value many is illegal"),
        ({"max-replicas": True}, "input value True is illegal"),
        ({"max-replicas": 1.5}, "input value 1.5 is illegal"),
        ({"low-space-ratio": float("nan")}, "input value nan is illegal"),
        ({"enable-one-way-merge": "yes"}, "input value yes is illegal"),
        ({"max-store-down-time": "soon"}, 'time: invalid duration "soon"'),
        ({"max-store-down-time": 5}, "input value 5 is illegal"),
        ({"region-score-formula-version": "v1"}, "cannot update config item region-score-formula-version dynamically"),
        ({"cluster-version": "x"}, "x is not in dotted-tri format"),
        ({"max-replicas": 5, "no-such": 1}, "config item no-such not found"),
        ({"cluster-version": "9.9.9", "max-replicas": 0}, "max-replicas should be between"),
    ],
)
async def test_a_refused_change_changes_nothing(changes: dict[str, object], text: str) -> None:
    disk = DictMetadata()
    settings = opened(disk)
    before = settings.to_json()
    with pytest.raises(PdError) as caught:
        await settings.set(changes)
    assert text in caught.value.message
    assert settings.to_json() == before
    assert opened(disk).to_json() == before


async def test_others_may_refuse_a_change() -> None:
    settings = opened(DictMetadata())

    def no(_old: ScheduleOptions, new: ScheduleOptions) -> None:
        if new.max_replicas > 3:
            raise PdError("please update rule instead")

    settings.checks.append(no)
    with pytest.raises(PdError, match="please update rule instead"):
        await settings.set({"max-replicas": 5})
    assert settings.options.max_replicas == 3


async def test_a_temporary_value_falls_away() -> None:
    disk = DictMetadata()
    settings = opened(disk)
    await settings.set_temporarily({"schedule.merge-schedule-limit": 0, "max-snapshot-count": 3}, 60, now=100.0)
    assert (settings.options.merge_schedule_limit, settings.options.max_snapshot_count) == (0, 3)
    assert settings.section("schedule")["merge-schedule-limit"] == 0
    assert opened(disk).options.merge_schedule_limit == 8
    with pytest.raises(InvalidSetting, match=r"need to clean up TTL first for schedule.merge-schedule-limit"):
        await settings.set({"merge-schedule-limit": 1})
    with pytest.raises(InvalidSetting, match=r"unsupported ttl config replication.max-replicas"):
        await settings.set_temporarily({"max-replicas": 1}, 60, now=100.0)
    await settings.set_temporarily({"max-snapshot-count": 3}, 0, now=110.0)
    assert settings.options.max_snapshot_count == 64
    settings.expire(159.0)
    assert settings.options.merge_schedule_limit == 0
    settings.expire(160.0)
    assert settings.options == ScheduleOptions()


async def test_what_is_stored_and_no_longer_legal_gives_way_to_the_default() -> None:
    disk = DictMetadata()
    document = {"schedule": {"max-snapshot-count": "x", "leader-schedule-limit": 7, "gone": 1}, "old": {}}
    await disk.write({KEY: json.dumps(document).encode()})
    settings = opened(disk)
    assert settings.options == ScheduleOptions(leader_schedule_limit=7)


def test_durations_are_written_as_go_writes_them() -> None:
    texts = {
        0.0: "0s",
        1e-9: "1ns",
        1.5e-6: "1.5µs",
        0.01: "10ms",
        1.0: "1s",
        90.25: "1m30.25s",
        1800.0: "30m0s",
        172_800.0: "48h0m0s",
    }
    for seconds, text in texts.items():
        assert show_duration(seconds) == text
        assert read_duration("x", text) == pytest.approx(seconds)
    for bad in ("", "5", "1h ", "-1s", "1x", "s", "1" * 50 + "h", "9" * 12 + "h"):
        with pytest.raises(InvalidSetting):
            read_duration("x", bad)


@given(st.integers(0, 10**15))
def test_a_duration_survives_its_text(nanoseconds: int) -> None:
    assert read_duration("x", show_duration(nanoseconds / 1e9)) == pytest.approx(nanoseconds / 1e9)


@given(st.integers(0, 1 << 40))
def test_hostile_values_never_raise_anything_else(seed: int) -> None:
    rng = random.Random(seed)
    values: list[object] = [None, [], {}, "x" * 9999, 1e308, -1, b"x", True, 10**30, ["a", 1], "1e5", float("inf")]
    settings = opened(DictMetadata())
    items = [f"{section}.{name}" for section in ("schedule", "replication") for name in settings.section(section)]
    for key, value in settings._flat({rng.choice(items): rng.choice(values)}).items():
        with contextlib.suppress(InvalidSetting):
            BY_KEY[key].read(key, value)
