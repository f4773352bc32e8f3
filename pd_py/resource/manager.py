"""Resource groups of the cluster: their settings in the replicated store, their buckets and consumption in the leader's memory.

    resource_group/settings/{name}    the group, a serialised resource_manager.ResourceGroup, as public PD keeps it

The group "default" is always there: unlimited, until somebody changes it. Settings are read from the store for each call, because
clients can write there, too; one that cannot be read is as if it were not there.

What is not kept over a change of leaders: the tokens saved up (each bucket begins anew with a start's worth) and the sums of
consumption. Only groups of request units exist, not of raw resources, as in public PD. There is one set of groups: the
DEFAULT keyspace and callers without one share it.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from core_py.errors import PdError, RetryClass
from core_py.ports import Clock
from core_py.runtime.log import get_logger
from pd_py.metastore.port import Metadata
from pd_py.resource.bucket import Grant, TokenBucket
from protos.kvproto import resource_manager_pb2 as pb

SETTINGS = "resource_group/settings/"
DEFAULT = "default"
MAX_NAME = 32
MAX_PRIORITY = 16
MIDDLE_PRIORITY = 8
MAX_GROUPS = 10_000
UNLIMITED_RATE = (1 << 31) - 1
UNLIMITED_BURST = -1
MAX_SETTINGS_BYTES = 64 << 10
MAX_CONSUMPTION = 1 << 62


class ResourceGroupError(PdError):
    """A change of resource groups, or a question about them, that is refused; nothing changed."""

    code = "PD:Resource:Refused"
    retry = RetryClass.NEVER


class ResourceManager:
    """All groups, within one term of leadership."""

    def __init__(self, store: Metadata, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}
        self._consumed: dict[str, pb.Consumption] = {}

    # ---- settings ----

    def get(self, name: str, *, with_stats: bool = False) -> pb.ResourceGroup:
        """One group. Raises ResourceGroupError."""
        group = self._find(name)
        if group is None:
            raise _missing(name)
        return self._dressed(group, with_stats=with_stats)

    def list(self, *, with_stats: bool = False) -> list[pb.ResourceGroup]:
        """All groups, by name."""
        found = {DEFAULT: default_group()}
        for key, value in self._store.prefix(SETTINGS):
            group = _parse(key.removeprefix(SETTINGS), value)
            if group is not None:
                found[group.name] = group
        return [self._dressed(found[name], with_stats=with_stats) for name in sorted(found)]

    async def add(self, group: pb.ResourceGroup) -> None:
        """A new group, or new settings in place of the old. Raises ResourceGroupError."""
        _check(group)
        if self._find(group.name) is None and len(self._store.prefix(SETTINGS)) >= MAX_GROUPS:
            raise ResourceGroupError(f"there are {MAX_GROUPS} resource groups already")
        await self._write(group)
        self._buckets.pop(group.name, None)

    async def modify(self, group: pb.ResourceGroup) -> None:
        """Change a group; its tokens are added to those it has. Raises ResourceGroupError."""
        known = self._find(group.name) if group.name else None
        if not group.name:
            raise _invalid("the group name")
        if known is None:
            raise _missing(group.name)
        if group.mode != known.mode:
            raise ResourceGroupError(
                "only support reconfigure in same mode, maybe you should delete and create a new one"
            )
        if group.priority > MAX_PRIORITY:
            raise ResourceGroupError("invalid resource group priority, the value should be in [0,16]")
        if not group.HasField("r_u_settings"):
            raise ResourceGroupError("invalid resource group settings, RU mode should set RU settings")
        _check(group)
        changed = pb.ResourceGroup()
        changed.CopyFrom(group)
        if not group.r_u_settings.r_u.HasField("settings"):
            changed.r_u_settings.r_u.settings.CopyFrom(known.r_u_settings.r_u.settings)
        await self._write(changed)
        self._bucket(group.name).add(group.r_u_settings.r_u.tokens)

    async def delete(self, name: str) -> None:
        """Remove a group. Raises ResourceGroupError."""
        if name == DEFAULT:
            raise ResourceGroupError("[PD:resourcemanager:ErrDeleteReservedGroup]cannot delete reserved group")
        if self._find(name) is None:
            raise _missing(name)
        await self._store.write({SETTINGS + name: None})
        self._buckets.pop(name, None)
        self._consumed.pop(name, None)

    async def _write(self, group: pb.ResourceGroup) -> None:
        stored = pb.ResourceGroup()
        stored.CopyFrom(group)
        for volatile in ("RUStats", "keyspace_id"):
            stored.ClearField(volatile)
        stored.r_u_settings.r_u.tokens = 0
        await self._store.write({SETTINGS + group.name: stored.SerializeToString()})

    def _find(self, name: str) -> pb.ResourceGroup | None:
        value = self._store.get(SETTINGS + name)
        group = None if value is None else _parse(name, value)
        return default_group() if group is None and name == DEFAULT else group

    def _dressed(self, group: pb.ResourceGroup, *, with_stats: bool) -> pb.ResourceGroup:
        """With what changes all the time."""
        bucket = self._buckets.get(group.name)
        if bucket is not None and group.r_u_settings.r_u.settings.burst_limit != UNLIMITED_BURST:
            group.r_u_settings.r_u.tokens = bucket.tokens
        if with_stats and group.name in self._consumed:
            group.RUStats.CopyFrom(self._consumed[group.name])
        return group

    # ---- tokens ----

    def acquire(self, request: pb.TokenBucketRequest, client: int, period_ms: int) -> pb.TokenBucketResponse | None:
        """Tokens for one group, and its consumption noted; None when there is no such group or nothing is wanted.

        Raises ResourceGroupError.
        """
        if request.is_background and request.is_tiflash:
            raise ResourceGroupError("background and tiflash cannot be true at the same time")
        name = request.resource_group_name
        group = self._find(name)
        if group is None:
            return None
        self._note(name, request.consumption_since_last_request)
        if request.is_background:
            return None
        settings = group.r_u_settings.r_u.settings
        response = pb.TokenBucketResponse(resource_group_name=name)
        for item in request.ru_items.request_r_u:
            if item.type != pb.RU:
                continue
            grant: Grant = self._bucket(name).request(
                item.value,
                client,
                period_ms,
                self._clock.monotonic(),
                fill_rate=settings.fill_rate,
                burst_limit=settings.burst_limit,
            )
            granted = response.granted_r_u_tokens.add(type=pb.RU, trickle_time_ms=grant.trickle_ms)
            granted.granted_tokens.settings.CopyFrom(settings)
            granted.granted_tokens.tokens = grant.tokens
        return response

    def _bucket(self, name: str) -> TokenBucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = TokenBucket(self._clock.monotonic())
        return bucket

    def _note(self, name: str, used: pb.Consumption) -> None:
        total = self._consumed.setdefault(name, pb.Consumption())
        for field, value in used.ListFields():
            if not 0 <= value < MAX_CONSUMPTION:
                continue  # not a number, or not one of a client that counts
            setattr(total, field.name, min(getattr(total, field.name) + value, MAX_CONSUMPTION))


def default_group() -> pb.ResourceGroup:
    """The group of everybody who has no other."""
    group = pb.ResourceGroup(name=DEFAULT, mode=pb.RUMode, priority=MIDDLE_PRIORITY)
    group.r_u_settings.r_u.settings.fill_rate = UNLIMITED_RATE
    group.r_u_settings.r_u.settings.burst_limit = UNLIMITED_BURST
    return group


def _parse(name: str, value: bytes) -> pb.ResourceGroup | None:
    try:
        group = pb.ResourceGroup.FromString(value)
    except DecodeError:
        get_logger().warn("resource group cannot be read", name=name)
        return None
    return group if group.name == name and group.mode == pb.RUMode else None


def _check(group: pb.ResourceGroup) -> None:
    if not 0 < len(group.name.encode()) <= MAX_NAME:
        raise _invalid("the group name")
    if group.priority > MAX_PRIORITY:
        raise _invalid("the group priority")
    if group.mode != pb.RUMode:
        raise _invalid("the group mode")
    if group.ByteSize() > MAX_SETTINGS_BYTES:
        raise _invalid("the size of the settings")


def _invalid(what: str) -> ResourceGroupError:
    return ResourceGroupError(f"[PD:resourcemanager:ErrInvalidGroup]invalid group settings, please check {what}")


def _missing(name: str) -> ResourceGroupError:
    return ResourceGroupError(f"[PD:resourcemanager:ErrGroupNotExists]the {name} resource group does not exist")
