"""G8: hostile clients of every kind in one daemon cost nobody else a token."""

from pathlib import Path

import pytest

from tests.hostile.run import FLOODS, KINDS, run_hostile

TURNS_WITHIN = 2_000.0
"""Milliseconds: a loop that a flood held for longer would cost others their deadlines."""


def test_hostile_clients_cost_nobody_a_token(tmp_path: Path) -> None:
    kinds = {**KINDS, **FLOODS}
    outcome = run_hostile(tmp_path, 12, control_seconds=1, lifetime=8, kinds=kinds)
    assert outcome.is_apart, outcome
    assert outcome.lag.p999 < TURNS_WITHIN


@pytest.mark.long
def test_hostile_clients_do_not_slow_the_loop(tmp_path: Path) -> None:
    outcome = run_hostile(tmp_path, 180, control_seconds=90)
    assert outcome.holds, outcome
