"""A Redis that answers and refuses: refreshing goes on, and publication catches up by itself."""

from collections.abc import Iterator

import pytest
from redis import Redis

from tests.canary import Canary
from tests.support.steady import Steady, bring_all, steady_world
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until

FULL = "Redis is out of memory (maxmemory reached, nothing it may evict)"
REPLICA = "this server is a replica and takes no writes"
PASSWORD = "Redis asks for a password and none is configured"


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> Iterator[Steady]:
    """A daemon that refreshes all the time."""
    with steady_world(tmp_path_factory.mktemp("redis-refusals"), canary) as steady:
        steady.world.daemon.start()
        bring_all(steady)
        yield steady
        assert steady.world.daemon.ready_count() == 1, "no fault took a restart"


def test_a_full_server(steady: Steady) -> None:
    with steady.undisturbed(), steady.outage(FULL), steady.world.valkey.client() as redis:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", 1)
        steady.await_loss(FULL)
        steady.rotate(2)
        redis.config_set("maxmemory", 0)


def test_a_replica_after_a_failover(steady: Steady) -> None:
    master, url = Valkey(), steady.world.valkey.url
    master.start()
    try:
        with (
            steady.undisturbed(),
            steady.outage("connection lost", REPLICA),
            Redis.from_url(url) as redis,
        ):
            redis.replicaof("127.0.0.1", str(master.port))
            steady.await_loss(REPLICA)
            steady.rotate(2)
            redis.replicaof("NO", "ONE")
    finally:
        master.stop()


def test_a_password_that_is_asked_for_from_now_on(steady: Steady, canary: Canary) -> None:
    password, url = canary.plant("redis-password"), steady.world.valkey.url
    with (
        steady.undisturbed(),
        steady.outage("connection lost", PASSWORD),
        Redis.from_url(url, password=password) as redis,
    ):
        with steady.world.valkey.client() as before:
            before.config_set("requirepass", password)
        redis.client_kill_filter(_type="normal", skipme=True)
        redis.client_kill_filter(_type="pubsub", skipme=True)
        steady.await_loss(PASSWORD)
        steady.rotate()
        redis.config_set("requirepass", "")


def test_an_acl_without_the_channel(steady: Steady) -> None:
    daemon = steady.world.daemon

    def is_ready() -> bool:
        return daemon.command("health", "--ready", check=None).returncode == 0

    steady.await_rebuilt()
    lost, rebuilt = (len(daemon.events(event)) for event in ("redis.lost", "mirror.rebuilt"))
    with steady.world.valkey.client() as redis:
        redis.execute_command("ACL", "SETUSER", "default", "resetchannels")
        wait_until(lambda: not is_ready(), description="the daemon is not ready")
        steady.rotate(3)
        steady.catch_up()
        told = daemon.command("health", "--ready", check=None)
        assert "forbids its channels: add &PREFIX*" in told.stdout + told.stderr
        assert len(daemon.events("redis.lost")) == lost
        assert len(daemon.events("mirror.rebuilt")) == rebuilt
        (doubt,) = daemon.events("redis.doubted")
        assert "forbids its channels: add &PREFIX*" in doubt["reason"]
        redis.execute_command("ACL", "SETUSER", "default", "allchannels")
        wait_until(is_ready, description="the daemon is ready again")
    assert len(daemon.events("redis.doubted")) == 1
