"""Steps of the clock that the vault's instants and the engine's waits have to survive."""

import time
from functools import partial
from pathlib import Path

import pytest

from refresher.engine.gate import FAILURES_TO_OPEN
from refresher.sandbox import Status
from tests.canary import Canary
from tests.support.steady import bring_all, steady_world
from tests.support.stepped_daemon import Stepping
from tests.support.waiting import wait_until

LIFETIME = 8.0
"""Seconds the access tokens live: long enough for a step of more than the watch tolerates."""
AGE, STEP = 3.0, -6.0
"""Seconds after its issue when the clock is stepped, and by how much."""


@pytest.mark.long
def test_a_step_back_by_less_than_a_tokens_age_ends_it_in_time(
    tmp_path: Path, canary: Canary
) -> None:
    with steady_world(tmp_path, canary, lifetime=LIFETIME) as steady:
        clock = Stepping(steady.world.daemon)
        clock.start()
        bring_all(steady)
        began = time.monotonic()
        with steady.undisturbed():
            time.sleep(AGE)
            clock.step(STEP)
            time.sleep(max(0.0, began + LIFETIME + 2 - time.monotonic()))


def test_a_step_back_does_not_renew_a_pause_that_is_over(tmp_path: Path, canary: Canary) -> None:
    with steady_world(tmp_path, canary) as steady:
        clock = Stepping(steady.world.daemon)
        clock.start()
        bring_all(steady)
        faults, daemon = steady.world.server.sandbox.faults, steady.world.daemon
        steady.world.server.call(faults.enqueue, *[Status()] * FAILURES_TO_OPEN)
        for event in ("endpoint.suspended", "endpoint.resumed"):
            wait_until(partial(daemon.events, event), description=event)
        clock.step(-1800)
        steady.rotate()


def test_a_clock_set_back_between_two_runs_costs_one_refresh(
    tmp_path: Path, canary: Canary
) -> None:
    with steady_world(tmp_path, canary) as steady:
        clock = Stepping(steady.world.daemon)
        clock.start()
        bring_all(steady)
        assert steady.world.daemon.stop() == 0
        clock.step(-3600)
        clock.start()
        [line] = steady.world.daemon.events("clock.jumped")
        assert (round(line["offset_s"]), line["reason"]) == (-3600, "measured")
        with steady.undisturbed():
            steady.rotate()
            steady.catch_up()
