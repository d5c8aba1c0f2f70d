"""A Redis that throws keys away: they come back, and the operator is warned once."""

from collections.abc import Iterator
from contextlib import suppress

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.canary import Canary
from tests.support.steady import Steady, bring_all, steady_world
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> Iterator[Steady]:
    """A daemon that refreshes all the time."""
    with steady_world(tmp_path_factory.mktemp("redis-eviction"), canary) as steady:
        steady.world.daemon.start()
        bring_all(steady)
        yield steady
        assert steady.world.daemon.ready_count() == 1, "no fault took a restart"


@pytest.mark.parametrize("policy", ["allkeys-random", "volatile-ttl"])
def test_an_evicting_server_is_doubted_once(steady: Steady, policy: str) -> None:
    valkey, daemon = steady.world.valkey, steady.world.daemon
    doubts = len(daemon.events("redis.doubted"))
    with steady.undisturbed():
        with steady.outage("connection lost", "connection refused"):
            valkey.restart(["--maxmemory", "100mb", "--maxmemory-policy", policy])
        with valkey.client() as redis:
            crowd_out(redis, [f"refresher:token:{name}" for name in steady.names])
            steady.rotate()
        steady.catch_up()
        for _ in range(2):  # each connection looks again, and says nothing twice
            with steady.outage("connection lost"), valkey.client() as redis:
                redis.client_kill_filter(_type="normal", skipme=True)
    told = [line["reason"] for line in daemon.events("redis.doubted")[doubts:]]
    assert told == [
        f"maxmemory-policy {policy} evicts tokens before anything without a TTL",
        "it has evicted keys",
    ]
    valkey.restart([])
    steady.catch_up()


def crowd_out(redis: Redis, tokens: list[str]) -> None:
    """Fill the server until it evicts one of TOKENS, then make room again."""
    written = 0
    used = redis.info("memory")["used_memory"]
    redis.config_set("maxmemory", used + 200_000)

    def is_evicted() -> bool:
        nonlocal written
        with suppress(RedisError):  # where it finds nothing to evict, it refuses
            for _ in range(20):
                written += 1
                redis.set(f"another:{written}", "x" * 2_000)
        evicted: int = redis.info("stats")["evicted_keys"]
        return evicted > 0 and any(not redis.exists(token) for token in tokens)

    wait_until(is_evicted, description="a token is evicted")
    redis.config_set("maxmemory", 100_000_000)
    for key in redis.scan_iter("another:*", count=1000):
        redis.delete(key)
