"""Work on many regions that takes several tries: scattering them, splitting them at keys.

Each try asks for the operators that can be had now; what is busy is tried again after a pause, up to a limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from core_py.ports import Clock
from pd_py.schedule import create
from pd_py.schedule.admin import BadOperatorRequest
from pd_py.schedule.core import SchedulingCore
from pd_py.schedule.operator import OpKind, SplitPolicy
from pd_py.schedule.scatter import CannotScatter

RETRY_S = 0.1
RETRY_MAX_S = 2.0
RETRIES_MAX = 30
REGIONS_MAX = 100_000


class RegionJobs:
    """Runs such work over the scheduling core."""

    def __init__(self, core: SchedulingCore, clock: Clock, supply_ids: Callable[[], Awaitable[None]]) -> None:
        self.core = core
        self.view = core.view
        self.operators = core.controller
        self._clock = clock
        self._supply_ids = supply_ids

    async def scatter_named(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Scatter by the fields of an API request. Raises BadOperatorRequest."""
        start, end = fields.get("start_key"), fields.get("end_key")
        if isinstance(start, str) and isinstance(end, str):
            try:
                found = self.view.scan(bytes.fromhex(start), bytes.fromhex(end), 0)
            except ValueError as error:
                raise BadOperatorRequest("bad format keys") from error
            region_ids = [region.region_id for region in found]
        else:
            given = fields.get("region_ids")
            if (
                not isinstance(given, list)
                or len(given) > REGIONS_MAX
                or not all(isinstance(one, int) for one in given)
            ):
                raise BadOperatorRequest("region_ids is invalid")
            region_ids = given
        group, retry_limit = fields.get("group"), fields.get("retry_limit")
        percentage, _ = await self.scatter(
            region_ids, group if isinstance(group, str) else "", retry_limit if isinstance(retry_limit, int) else 5
        )
        return {"finished-percentage": percentage}

    async def scatter(
        self, region_ids: Sequence[int], group: str, retry_limit: int = 5, *, skip_store_limit: bool = False
    ) -> tuple[int, list[int]]:
        """Scatter regions over the stores. Returns which percentage was done or is under way, and the regions that failed."""
        left = list(dict.fromkeys(region_ids))
        total, pause_s = len(left), RETRY_S
        for attempt in range(min(max(retry_limit, 0), RETRIES_MAX) + 1):
            if attempt:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, RETRY_MAX_S)
            failed = []
            for region_id in left:
                await self._supply_ids()
                if not self._scatter_one(region_id, group, skip_store_limit=skip_store_limit):
                    failed.append(region_id)
            left = failed
            if not left:
                break
        return (100 if not total else 100 - 100 * len(left) // total), left

    def _scatter_one(self, region_id: int, group: str, *, skip_store_limit: bool) -> bool:
        region = self.view.region(region_id)
        if region is None:
            return False
        now = self._clock.monotonic()
        context = self.core.context(now)
        try:
            operator = self.core.scatterer.scatter(context, region, group, skip_limit=skip_store_limit)
        except CannotScatter:
            return False
        return operator is None or self.core.add((operator,), now)

    async def split(self, keys: Sequence[bytes], retry_limit: int = 5) -> tuple[int, list[int]]:
        """Split regions so that each key begins one. Returns the percentage of keys that do, and the regions they begin."""
        wanted = sorted(set(keys) - {b""})
        pause_s = RETRY_S
        for attempt in range(min(max(retry_limit, 1), RETRIES_MAX) + 1):
            left = [key for key in wanted if not self._begins_region(key)]
            if not left:
                break
            if attempt:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, RETRY_MAX_S)
            self._ask_splits([key for key in left if not self._begins_region(key)])
        begun = [key for key in wanted if self._begins_region(key)]
        region_ids = [region.region_id for key in begun if (region := self.view.region_of(key)) is not None]
        return (100 if not wanted else 100 * len(begun) // len(wanted)), region_ids

    def _begins_region(self, key: bytes) -> bool:
        region = self.view.region_of(key)
        return region is not None and region.start_key == key

    def _ask_splits(self, keys: Iterable[bytes]) -> None:
        by_region: dict[int, list[bytes]] = {}
        for key in keys:
            region = self.view.region_of(key)
            if region is not None and region.region_id not in self.operators:
                by_region.setdefault(region.region_id, []).append(key)
        now = self._clock.monotonic()
        for region_id, cuts in by_region.items():
            region = self.view.region(region_id)
            if region is not None and region.leader_store_id and not region.is_joint:
                operator = create.split_region(
                    "admin-split-region", region, OpKind.ADMIN, SplitPolicy.USEKEY, tuple(cuts)
                )
                self.core.add((operator,), now)
