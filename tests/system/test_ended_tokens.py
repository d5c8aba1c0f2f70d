"""G1 at a server where a refresh ends the access token before it, on real processes."""

import time
import urllib.error
import urllib.request
from pathlib import Path

from refresher.sandbox import SandboxOptions
from tests.canary import Canary
from tests.support.waiting import PATIENCE
from tests.system.world import World, new_world

REFRESHES = 5

BACK_WITHIN = 1.0
"""Seconds for which a consumer that reads the key at each use may be refused."""


def is_accepted(world: World) -> bool:
    """Whether the token that can be read now is good."""
    access_token = world.token("g").get("access_token", "")
    request = urllib.request.Request(  # noqa: S310  loopback
        world.server.sandbox.resource_url, headers={"Authorization": f"Bearer {access_token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE):  # noqa: S310  loopback
            return True
    except urllib.error.HTTPError as refused:
        refused.close()
        return False


def test_the_successor_of_an_ended_token_is_there_at_once(tmp_path: Path) -> None:
    """Nobody can publish before the server answers; nothing else may come in between."""
    canary = Canary()
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"),
        access_token_lifetime=3600,
        revoke_access_token_on_refresh=True,
    )
    with new_world(tmp_path, canary, options) as world:
        world.daemon.prepare(redis_url=world.valkey.url, clients=world.client("box"))
        world.daemon.start()
        [refresh_token] = world.server.refresh_tokens(1)
        world.import_grants({"name": "g", "client": "box", "refresh_token": refresh_token})
        gaps = [longest_refusal(world, done) for done in range(1, REFRESHES + 1)]
    assert max(gaps) < BACK_WITHIN


def longest_refusal(world: World, done: int) -> float:
    """Refresh once more than DONE times; seconds for which a consumer was refused meanwhile."""
    while not is_accepted(world):
        time.sleep(0.01)
    world.daemon.command("refresh", "g")
    deadline = time.monotonic() + PATIENCE
    while len(world.server.sandbox.log) <= done:
        assert time.monotonic() < deadline, "no refresh"
        time.sleep(0.005)
    ended = time.monotonic()
    while not is_accepted(world):
        assert time.monotonic() < deadline, "no successor"
        time.sleep(0.005)
    return time.monotonic() - ended
