"""Every fault at once, in a shorter form."""

from pathlib import Path

import pytest

from tests.chaos.run import holds, run_chaos


@pytest.mark.long
async def test_chaos_violates_no_guarantee(tmp_path: Path) -> None:
    result = await run_chaos(tmp_path, seconds=120, seed=3)
    assert holds(result), result
    assert sum(result["faults"].values()) >= 5
