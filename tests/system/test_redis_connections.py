"""A network between daemon and Redis that is slow, or forgets connections without a word."""

from collections.abc import Iterator

import pytest

from tests.canary import Canary
from tests.support.proxy import Proxy, proxy_to
from tests.support.steady import Steady, bring_all, steady_world
from tests.support.waiting import wait_until

SILENT = "no answer in time"


@pytest.fixture(scope="module")
def proxied(
    tmp_path_factory: pytest.TempPathFactory, canary: Canary
) -> Iterator[tuple[Steady, Proxy]]:
    """A daemon that refreshes all the time, and the way to its Redis."""
    with (
        steady_world(tmp_path_factory.mktemp("redis-connections"), canary) as steady,
        proxy_to(steady.world.valkey.port) as proxy,
    ):
        config = steady.world.daemon.config
        config.write_text(config.read_text().replace(steady.world.valkey.url, proxy.url))
        steady.world.daemon.start()
        bring_all(steady)
        yield steady, proxy
        assert steady.world.daemon.ready_count() == 1, "no fault took a restart"
        assert steady.world.daemon.stop() == 0  # while there is a way


@pytest.mark.parametrize(
    "sides",
    [("server", "client"), ("server",), ("client",)],
    ids=["both ways", "what is asked", "what is answered"],
)
def test_a_connection_that_went_silent_is_given_up_within_seconds(
    proxied: tuple[Steady, Proxy], sides: tuple[str, ...]
) -> None:
    steady, proxy = proxied
    connected = len(steady.world.daemon.events("redis.connected"))
    with steady.undisturbed(), steady.outage(SILENT):
        proxy.forget(*sides)
        wait_until(
            lambda: len(steady.world.daemon.events("redis.connected")) > connected,
            description="another connection",
        )
        steady.rotate()


def test_a_slow_network_delays_only(proxied: tuple[Steady, Proxy]) -> None:
    steady, proxy = proxied
    lost = len(steady.world.daemon.events("redis.lost"))
    with steady.undisturbed():
        proxy.latency = 0.1
        steady.rotate(2)
        steady.catch_up()
        assert len(steady.world.daemon.events("redis.lost")) == lost
        proxy.latency = 0.0


def test_a_network_too_slow_to_be_used_is_told(proxied: tuple[Steady, Proxy]) -> None:
    steady, proxy = proxied
    with steady.undisturbed(), steady.outage(SILENT):
        proxy.latency = 2.0
        steady.await_loss(SILENT)
        steady.rotate()
        proxy.latency = 0.0
