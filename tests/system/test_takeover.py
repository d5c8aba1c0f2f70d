"""G2 and G3 when a standby takes over, on real processes."""

from pathlib import Path

import pytest

from tests.takeover import run_takeovers


@pytest.mark.timeout(120)
def test_a_standby_takes_over_from_the_stopped(tmp_path: Path) -> None:
    outcome = run_takeovers(tmp_path, times=1, seed=5, kinds=["stopped"])
    assert outcome.holds, outcome
    assert outcome.in_flight == 1


@pytest.mark.long
@pytest.mark.timeout(600)
def test_many_takeovers_lose_nothing(tmp_path: Path) -> None:
    outcome = run_takeovers(tmp_path, times=8, seed=6)
    assert outcome.holds, outcome
    assert outcome.in_flight >= 12
