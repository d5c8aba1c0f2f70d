"""G7 in a crowd: everything due at once at a server that throttles, on real processes."""

from pathlib import Path

import pytest

from tests.storm.run import run_storm


def test_a_crowd_waits_its_turn(tmp_path: Path) -> None:
    outcome = run_storm(tmp_path, grants=160, rate=40, seed=3, refused_for=1.5)
    assert outcome.holds, outcome
    assert outcome.throttled < 40


@pytest.mark.long
def test_a_large_crowd_waits_its_turn(tmp_path: Path) -> None:
    outcome = run_storm(tmp_path, grants=5_000, rate=100, seed=4)
    assert outcome.holds, outcome
    assert outcome.throttled < 500
