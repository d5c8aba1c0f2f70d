"""A Redis that stands still, is away for many rotations, or is not there yet."""

import time
from collections.abc import Iterator

import pytest

from tests.canary import Canary
from tests.support.steady import LIFETIME, Steady, bring_all, steady_world

GONE = ("connection lost", "connection refused")


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> Iterator[Steady]:
    """A daemon that refreshes all the time."""
    with steady_world(tmp_path_factory.mktemp("redis-away"), canary) as steady:
        steady.world.daemon.start()
        bring_all(steady)
        yield steady


def test_a_server_that_stood_still_shows_nothing_that_ended(steady: Steady) -> None:
    """What waited in its sockets is executed when it goes on, tokens ended long ago."""
    with steady.undisturbed(), steady.outage("no answer in time"):
        steady.world.valkey.pause()
        try:
            steady.rotate()
            time.sleep(LIFETIME)
        finally:
            steady.world.valkey.resume()


def test_an_empty_server_after_many_rotations_shows_the_last(steady: Steady) -> None:
    with steady.undisturbed(), steady.outage(*GONE):
        steady.world.valkey.kill()
        try:
            steady.rotate(3)
        finally:
            steady.world.valkey.start()


def test_a_server_that_comes_after_the_daemon_shows_the_last(steady: Steady) -> None:
    daemon, valkey = steady.world.daemon, steady.world.valkey
    with steady.undisturbed():
        steady.catch_up()
        assert daemon.stop() == 0
        with steady.outage("connection refused"):
            valkey.kill()
            try:
                daemon.start()
                steady.rotate(2)
            finally:
                valkey.start()
