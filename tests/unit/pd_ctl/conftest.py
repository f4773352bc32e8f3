"""A member, and a terminal at it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.pd_api.member import Member, new_member
from tests.unit.pd_ctl.terminal import Terminal, at


@pytest.fixture
async def member() -> Member:
    return await new_member()


@pytest.fixture
async def pd(member: Member) -> AsyncIterator[Terminal]:
    async with at(member) as terminal:
        yield terminal
