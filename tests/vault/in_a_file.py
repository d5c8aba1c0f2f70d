"""An open vault in a file, for tests that are not about where it lies."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from refresher.vault.vault import Vault
from tests.vault.world import opened


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[Vault]:
    async with opened(tmp_path) as vault:
        yield vault
