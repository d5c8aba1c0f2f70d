"""G2 and G3 when a standby takes over, on real processes; ``test_fence`` is the short form."""

from pathlib import Path

import pytest

from tests.takeover.run import run_takeovers


@pytest.mark.long
def test_many_takeovers_lose_nothing(tmp_path: Path) -> None:
    outcome = run_takeovers(tmp_path, times=8, seed=6)
    assert outcome.holds, outcome
    assert outcome.in_flight >= 12
