"""Redis' clock is not ours, all the time: no token outlives its end, and the operator is told."""

import time
from pathlib import Path

import pytest

from tests.canary import Canary
from tests.support.steady import bring_all, steady_world
from tests.support.stepped_daemon import Stepping


@pytest.mark.parametrize("offset", [-3600.0, 3600.0], ids=["Redis ahead", "Redis behind"])
def test_a_redis_on_another_clock_keeps_no_token_longer(
    offset: float, tmp_path: Path, canary: Canary
) -> None:
    """The clock that can be shifted is the daemon's, so the server's differs as well."""
    with steady_world(tmp_path, canary) as steady:
        world = steady.world
        Stepping(world.daemon, offset).start()
        bring_all(steady)
        with steady.undisturbed(), world.valkey.client() as redis:
            steady.rotate(2)
            steady.catch_up()
            for name in steady.names:
                token = world.token(name)["access_token"]
                left = redis.pttl(f"refresher:token:{name}") / 1000
                access = world.server.sandbox.families._access_tokens[token]
                assert left <= access.expires_at - time.time() + 0.01
            redis.flushall()
            steady.catch_up()
        [doubt] = world.daemon.events("redis.doubted")
        assert round(doubt["offset_s"]) == -offset
        assert world.daemon.events("redis.lost", "clock.jumped") == []
