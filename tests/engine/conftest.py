"""An open vault, and the lines that are logged, for every test of the engine."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from refresher import logs
from tests.engine.world import Lines
from tests.vault.in_a_file import vault
from tests.vault.sharing import Shared, shared

__all__ = ["vault"]


@pytest.fixture(autouse=True)
def lines() -> Iterator[Lines]:
    """The lines of this test, every level."""
    before = structlog.get_config()
    captured = Lines()
    logs.configure(level="debug", output=captured.output, json_lines=True)
    yield captured
    structlog.configure(**before)


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Shared]:
    """A vault that several replicas share."""
    async with shared(tmp_path) as both:
        yield both
