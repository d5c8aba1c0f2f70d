"""What every test gets."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """aiohttp and redis speak asyncio only."""
    return "asyncio"
