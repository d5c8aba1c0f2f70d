"""G4 on real processes: Redis may be flushed, killed, emptied or missing; the tokens come back."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from refresher.sandbox import Minted, Sandbox, SandboxOptions
from tests.canary import Canary
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until
from tests.system.world import World, new_world

GRANTS = 1_000

AT_ONCE = 5.0
"""Seconds after which every current token must be readable again."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> Iterator[World]:
    """A daemon that publishes many tokens, each of which lives for an hour."""
    folder = tmp_path_factory.mktemp("redis-faults")
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"), access_token_lifetime=3600
    )
    with new_world(folder, canary, options) as world:
        world.daemon.prepare(redis_url=world.valkey.url, clients=world.client("box"))
        world.daemon.start()
        minted = world.server.call(mint_many, world.server.sandbox)
        ends_at = int(time.time()) + 3600
        world.import_grants(
            *(
                {
                    "name": f"g{number}",
                    "client": "box",
                    "refresh_token": grant.refresh_token,
                    "access_token": grant.access_token,
                    "expires_at": ends_at,
                    "labels": {"access": "full"},
                }
                for number, grant in enumerate(minted)
            )
        )
        wait_until(lambda: len(tokens(world)) == GRANTS, description="all are published")
        yield world


def mint_many(sandbox: Sandbox) -> list[Minted]:
    return [sandbox.mint() for _ in range(GRANTS)]


def tokens(world: World, **options: Any) -> dict[str, dict[str, str]]:
    """Every token that can be read now, by the name of its grant."""
    with Redis.from_url(world.valkey.url, decode_responses=True, **options) as redis:
        pipe = redis.pipeline(transaction=False)
        for name in world.lines:
            pipe.hgetall(f"refresher:token:{name}")
        found = pipe.execute()
    return {name: token for name, token in zip(world.lines, found, strict=True) if token}


def await_all(world: World, before: dict[str, dict[str, str]], **options: Any) -> None:
    """What BEFORE holds can be read at once, and nothing older in the meantime."""

    def is_back() -> bool:
        now = tokens(world, **options)
        older = [name for name in now if int(now[name]["version"]) < int(before[name]["version"])]
        assert older == []
        return now == before

    wait_until(is_back, description="every token is back", every=0.1)


def flush(valkey: Valkey) -> None:
    with valkey.client() as redis:
        redis.flushall()


def kill_and_start_later(valkey: Valkey) -> None:
    valkey.kill()
    time.sleep(0.05)
    valkey.start()


@pytest.mark.parametrize(
    ("disturb", "outages"),
    [
        pytest.param(flush, 0, id="FLUSHALL"),
        pytest.param(kill_and_start_later, 1, id="kill and start"),
        pytest.param(Valkey.restart, 1, id="restart"),
    ],
)
def test_every_token_is_back_at_once(
    disturb: Callable[[Valkey], None], outages: int, world: World
) -> None:
    before = tokens(world)
    lost = len(world.daemon.events("redis.lost"))
    connected = len(world.daemon.events("redis.connected"))
    disturb(world.valkey)
    await_all(world, before)
    wait_until(
        lambda: len(world.daemon.events("redis.connected")) == connected + outages,
        description="the return is announced",
    )
    assert len(world.daemon.events("redis.lost")) == lost + outages
    wait_until(lambda: world.status("g0").get("state") == "fresh", description="statuses too")


def test_an_outage_stops_publication_only(world: World) -> None:
    before = tokens(world)
    lost = len(world.daemon.events("redis.lost"))
    world.valkey.kill()
    try:
        wait_until(
            lambda: len(world.daemon.events("redis.lost")) > lost,
            description="redis.lost",
        )
        refused = f"Redis at 127.0.0.1:{world.valkey.port}: connection refused\n"
        shown = world.daemon.command("token", "g1", check=1)
        assert shown.stderr == f"refresher: {refused}"
        done = world.daemon.command("health", "--ready", check=1)
        assert done.stderr.startswith("Redis cannot be used: Redis at 127.0.0.1:")
        exchanges = len(world.server.sandbox.log)
        world.daemon.command("refresh", "g1")
        wait_until(
            lambda: len(world.server.sandbox.log) > exchanges,
            description="the exchange",
        )
    finally:
        world.valkey.start()
    wait_until(
        lambda: (
            int(tokens(world).get("g1", before["g1"])["version"]) > int(before["g1"]["version"])
        ),
        description="the new token can be read",
    )
    await_all(world, before | {"g1": tokens(world)["g1"]})
    reasons = [line["reason"] for line in world.daemon.events("redis.lost")[lost:]]
    what = [reason.partition(": ")[2] for reason in reasons]
    assert set(what) <= {"connection lost", "connection refused"}
    assert len(what) == len(set(what)), "each is told once"


def test_redis_may_come_after_the_daemon(world: World) -> None:
    before = tokens(world)
    assert world.daemon.stop() == 0
    lost = len(world.daemon.events("redis.lost"))
    world.valkey.kill()
    try:
        world.daemon.start()
        exchanges = len(world.server.sandbox.log)
        world.daemon.command("refresh", "g2")
        wait_until(
            lambda: len(world.server.sandbox.log) > exchanges,
            description="the exchange",
        )
    finally:
        world.valkey.start()
    wait_until(
        lambda: (
            int(tokens(world).get("g2", before["g2"])["version"]) > int(before["g2"]["version"])
        ),
        description="the new token can be read",
    )
    await_all(world, before | {"g2": tokens(world)["g2"]})
    assert len(world.daemon.events("redis.lost")) == lost + 1


def test_a_password_is_asked_for_by_name(world: World) -> None:
    before, settings = tokens(world), world.daemon.config.read_text()
    password = world.canary.plant("redis-password")
    asked = (
        f"Redis at 127.0.0.1:{world.valkey.port}: Redis asks for a password and none is configured"
    )
    world.valkey.restart(["--requirepass", password])
    try:
        shown = world.daemon.command("token", "g3", check=1)
        assert shown.stderr == f"refresher: {asked}\n"
        wait_until(
            lambda: asked in world.daemon.command("health", "--ready", check=1).stderr,
            description="the running daemon says so too",
        )
        assert world.daemon.stop() == 0
        lost = len(world.daemon.events("redis.lost"))
        world.daemon.start()
        wait_until(
            lambda: len(world.daemon.events("redis.lost")) > lost,
            description="redis.lost",
        )
        assert [line["reason"] for line in world.daemon.events("redis.lost")[lost:]] == [asked]

        assert world.daemon.stop() == 0
        world.secret_file("redis.secret", password)
        section = "[redis]\npassword = { file = 'redis.secret' }"
        world.daemon.config.write_text(settings.replace("[redis]", section))
        world.daemon.start()
        await_all(world, before, password=password)
        with Redis.from_url(world.valkey.url, password=password, decode_responses=True) as redis:
            assert world.canary.leaks(world.daemon.folder, redis) == []
    finally:
        world.daemon.config.write_text(settings)
        world.valkey.restart([])
        world.daemon.stop()
        world.daemon.start()
    await_all(world, before)
