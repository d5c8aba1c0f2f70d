"""An operator's pause at real processes: beside the daemon, without it, and over a restart."""

import json
from collections.abc import Iterator

import pytest

from refresher.sandbox import Minted, SandboxOptions
from tests.canary import Canary
from tests.support.waiting import wait_until
from tests.system.test_requests import adopt, answer, exchanges, next_version, reject
from tests.system.world import World, new_world

LIFETIME = 4.0
"""Seconds an access token lives: long enough to see that none is fetched."""


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> Iterator[World]:
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"),
        rotation="strict",
        access_token_lifetime=LIFETIME,
    )
    with new_world(tmp_path_factory.mktemp("pauses"), canary, options) as world:
        world.daemon.prepare(redis_url=world.valkey.url, clients=world.client("box"))
        world.daemon.start()
        yield world


def await_end(world: World, minted: Minted) -> None:
    """The token of the grant ``held`` ends, and nobody has asked for another."""
    asked = exchanges(world, minted)
    wait_until(lambda: world.token("held") == {}, description="the end of its token")
    assert exchanges(world, minted) == asked


def test_nothing_is_sent_until_the_operator_says_so(world: World) -> None:
    minted, _ = adopt(world, "held")
    done = world.daemon.command("pause", "held")
    assert done.stdout.startswith("held is paused (paused_here)\n  refresher resume held ends")
    version = world.status("held")["version"]
    reject(world, "held", version)
    wait_until(lambda: answer(world, "held") == "paused", description="an answer")
    refused = world.daemon.command("refresh", "held", check=3)
    assert "repair: refresher resume held ends the pause\n" in refused.stderr
    await_end(world, minted)

    assert world.daemon.stop() == 0
    [view] = json.loads(world.daemon.command("status", "held", "--json", check=3).stdout)["grants"]
    assert (view["state"], view["reason"]) == ("paused", "paused_here")
    world.daemon.start()
    world.await_state("held", "paused")
    resumed = world.daemon.command("resume", "held")
    assert resumed.stdout == "held is expired; its next attempt is due\n"
    next_version(world, "held", version)


def test_a_pause_with_an_end_is_ordered_without_a_daemon_and_ends_in_one(world: World) -> None:
    minted, version = adopt(world, "held")
    assert world.daemon.stop() == 0
    paused = json.loads(
        world.daemon.command("pause", "--client", "box", "--for", "6s", "--json").stdout
    )
    assert paused == {"count": 1, "grants": []}
    world.daemon.start()
    await_end(world, minted)
    next_version(world, "held", version)
    assert [line["reason"] for line in world.daemon.events("grant.resumed")] == ["its end has come"]
