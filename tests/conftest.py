"""What every test gets."""

import pytest

from tests.canary import Canary


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """aiohttp and redis speak asyncio only."""
    return "asyncio"


@pytest.fixture(scope="module")
def canary() -> Canary:
    """Secrets to be planted in one module's daemons, and found where they came out."""
    return Canary()
