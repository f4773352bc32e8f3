"""The settings of the cluster: loaded from and kept in the metadata store, shown and changed as JSON under the public names.

A change is checked as a whole with all that it would stand beside, asked of whoever may refuse it, made durable, and only
then in effect; listeners hear of it. Some can be set for a time only: such values lie over the lasting ones, are held in
memory and fall away by themselves, so a tool that dies cannot leave the cluster without scheduling for ever.

Invariant: `options` is what the values say, temporary ones included.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from core_py.runtime.log import get_logger
from pd_py.cluster import store_labels
from pd_py.cluster.settings_items import BY_KEY, ITEMS, SECTIONS, InvalidSetting, Item, Stored
from pd_py.cluster.versions import Version
from pd_py.metastore.port import Metadata
from pd_py.schedule.options import ScheduleOptions

CLUSTER_VERSION = "cluster-version"
MAX_REPLICAS = 100
OptionsListener = Callable[[ScheduleOptions, ScheduleOptions], None]
"""Called with the options before and after."""


class Settings:
    """The values in effect. `initial` comes from the configuration file and counts until something is stored."""

    def __init__(self, metastore: Metadata, key: str, initial: ScheduleOptions) -> None:
        self._metastore = metastore
        self._key = key
        self._initial = initial
        self._changing = asyncio.Lock()
        self.checks: list[OptionsListener] = []
        """Asked before a change; they refuse it by raising PdError."""
        self.listeners: list[OptionsListener] = []
        self._values: dict[str, Stored] = {}
        self._temporary: dict[str, tuple[Stored, float]] = {}
        self.cluster_version = Version(0, 0, 0)
        self.options = initial
        self._load()

    def _load(self) -> None:
        """Read what is stored; unknown names and values that are no longer legal give way to the defaults."""
        self._values = {item.key: getattr(self._initial, item.field) if item.field else item.default for item in ITEMS}
        stored = json.loads(self._metastore.get(self._key) or b"{}")
        for item in ITEMS:
            section = stored.get(item.section, {})
            if item.name in section and not item.is_fixed:
                try:
                    self._values[item.key] = item.read(item.name, section[item.name])
                except InvalidSetting as error:
                    get_logger().warn("stored setting is ignored", item=item.key, error=str(error))
        self.cluster_version = Version.parse(stored.get(CLUSTER_VERSION, ""))
        self._apply()

    def value(self, key: str) -> Stored:
        """One value by section.name, as a number, truth, text or tuple; durations are seconds. Raises KeyError."""
        temporary = self._temporary.get(key)
        return self._values[key] if temporary is None else temporary[0]

    def seconds(self, key: str) -> float:
        """A duration by section.name."""
        value = self.value(key)
        assert isinstance(value, int | float)
        return float(value)

    def section(self, name: str) -> dict[str, Any]:
        """One section as the public JSON."""
        return {item.name: item.show(self.value(item.key)) for item in ITEMS if item.section == name}

    def to_json(self) -> dict[str, Any]:
        """All sections as the public JSON."""
        document: dict[str, Any] = {name: self.section(name) for name in SECTIONS}
        document[CLUSTER_VERSION] = str(self.cluster_version)
        return document

    async def set(self, changes: Mapping[str, object]) -> None:
        """Change settings by section.name, by bare name, or by section with an object of names; all or none.

        Raises InvalidSetting, PdError.
        """
        changed = dict(self._flat(changes))
        text = changed.pop(CLUSTER_VERSION, None)
        async with self._changing:
            version = self.cluster_version if text is None else Version.parse(str(text))
            values = dict(self._values)
            for key, value in changed.items():
                if key in self._temporary:
                    raise InvalidSetting(f"need to clean up TTL first for {key}")
                values[key] = self._read(BY_KEY[key], value)
            if values == self._values and version == self.cluster_version:
                return
            self._check(values)
            await self._store(values, version)

    def _flat(self, changes: Mapping[str, object]) -> Mapping[str, object]:
        """By full key. A bare name is looked for in all sections."""
        out: dict[str, object] = {}
        for key, value in changes.items():
            if key in SECTIONS and isinstance(value, Mapping):
                out |= self._flat({f"{key}.{name}": one for name, one in value.items()})
            elif key == CLUSTER_VERSION or key in BY_KEY:
                out[key] = value
            elif "." in key:
                section = key.split(".", 1)[0]
                if section not in SECTIONS:
                    raise InvalidSetting(f"config prefix {section[:100]} not found")
                raise InvalidSetting(f"config item {key.split('.', 1)[1][:100]} not found")
            else:
                found = next((item.key for item in ITEMS if item.name == key), None)
                if found is None:
                    raise InvalidSetting(f"config item {key[:100]} not found")
                out[found] = value
        return out

    def _read(self, item: Item, value: object) -> Stored:
        read = item.read(item.name, value)
        if item.is_fixed and read != self._values[item.key]:
            raise InvalidSetting(f"cannot update config item {item.name} dynamically")
        return read

    def _check(self, values: Mapping[str, Stored]) -> None:
        options = _options(self._initial, values)
        validate(options)
        for check in self.checks:
            check(self.options, options)

    async def set_temporarily(self, changes: Mapping[str, object], ttl_s: float, now: float) -> None:
        """Change settings for a time; zero seconds take them back. Raises InvalidSetting, PdError."""
        async with self._changing:
            temporary = dict(self._temporary)
            for key, value in self._flat(changes).items():
                item = BY_KEY.get(key)
                if item is None or not item.can_be_temporary:
                    raise InvalidSetting(f"unsupported ttl config {key}")
                if ttl_s <= 0:
                    temporary.pop(key, None)
                else:
                    temporary[key] = (self._read(item, value), now + max(ttl_s, 5.0))
            self._check(self._values | {key: value for key, (value, _) in temporary.items()})
            self._temporary = temporary
            self._apply()

    def expire(self, now: float) -> None:
        """Let temporary values fall away whose time is over."""
        if any(until <= now for _, until in self._temporary.values()):
            self._temporary = {key: one for key, one in self._temporary.items() if one[1] > now}
            self._apply()

    async def set_cluster_version(self, text: str) -> None:
        """Set the cluster's version. Raises PdError for a text that is none."""
        await self.set({CLUSTER_VERSION: text})

    async def _store(self, values: dict[str, Stored], version: Version) -> None:
        await self._metastore.write({self._key: self._document(values, version)})
        self._values, self.cluster_version = values, version
        self._apply()

    def _document(self, values: Mapping[str, Stored], version: Version) -> bytes:
        document: dict[str, Any] = {CLUSTER_VERSION: str(version)}
        for item in ITEMS:
            document.setdefault(item.section, {})[item.name] = item.show(values[item.key])
        return json.dumps(document, sort_keys=True).encode()

    def _apply(self) -> None:
        before = self.options
        self.options = _options(
            self._initial, self._values | {key: value for key, (value, _) in self._temporary.items()}
        )
        if self.options != before:
            for listener in self.listeners:
                listener(before, self.options)


def _options(initial: ScheduleOptions, values: Mapping[str, Stored]) -> ScheduleOptions:
    fields: dict[str, Any] = {item.field: values[item.key] for item in ITEMS if item.field}
    return replace(initial, **fields)


def validate(options: ScheduleOptions) -> None:
    """Rules over several settings. Raises InvalidSetting, PdError."""
    if options.tolerant_size_ratio < 0:
        raise InvalidSetting("tolerant-size-ratio should be non-negative")
    if not 0 <= options.low_space_ratio <= 1:
        raise InvalidSetting("low-space-ratio should between 0 and 1")
    if not 0 <= options.high_space_ratio <= 1:
        raise InvalidSetting("high-space-ratio should between 0 and 1")
    if options.low_space_ratio <= options.high_space_ratio:
        raise InvalidSetting("low-space-ratio should be larger than high-space-ratio")
    if options.leader_schedule_policy not in ("count", "size"):
        raise InvalidSetting(f"leader-schedule-policy {options.leader_schedule_policy[:100]} is invalid")
    if not 1 <= options.max_replicas <= MAX_REPLICAS:
        raise InvalidSetting(f"max-replicas should be between 1 and {MAX_REPLICAS}")
    store_labels.validate((label, "") for label in options.location_labels)
    if options.isolation_level and options.isolation_level not in options.location_labels:
        raise InvalidSetting("isolation-level must be one of location-labels or empty")
