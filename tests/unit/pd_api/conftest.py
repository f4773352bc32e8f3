"""A member with its HTTP client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.pd_api.member import Client, Member, new_member, serving


@pytest.fixture
async def member() -> Member:
    return await new_member()


@pytest.fixture
async def http(member: Member) -> AsyncIterator[Client]:
    async with serving(member) as client:
        yield client
