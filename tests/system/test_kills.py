"""G2 and G3 under kill -9, on real processes."""

from pathlib import Path

import pytest

from tests.kills.run import run_kills


def test_no_kill_loses_a_grant(tmp_path: Path) -> None:
    outcome = run_kills(tmp_path, kills=4, seed=7)
    assert outcome.lost == 0
    assert outcome.overlapping == 0
    assert outcome.in_flight >= 2


@pytest.mark.long
def test_fifty_kills_lose_no_grant(tmp_path: Path) -> None:
    outcome = run_kills(tmp_path, kills=50, seed=11)
    assert outcome.lost == 0
    assert outcome.overlapping == 0
    assert outcome.in_flight >= 30
