"""A sandbox for every test that wants the ordinary one."""

from collections.abc import AsyncIterator

import pytest

from refresher.sandbox import Sandbox


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as running:
        yield running
