"""Three replicas on one vault under every fault, in a shorter form."""

from pathlib import Path

import pytest

from tests.replicas.run import run_replicas


@pytest.mark.long
async def test_replicas_violate_no_guarantee(tmp_path: Path) -> None:
    verdict = await run_replicas(tmp_path, seconds=90, grants=160, seed=3)
    assert verdict.holds, verdict
    assert len(verdict.faults) == 6
    assert verdict.kills_in_exchanges
