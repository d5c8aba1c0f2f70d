"""``refresher refresh --lost``: the way back where a server was wrong (guarantee G6)."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from refresher.sandbox import SandboxOptions, Status
from tests.canary import Canary
from tests.support.waiting import wait_until
from tests.system.world import World, new_world

LOST = {"state": "reauthorization_required", "reason": "revoked:invalid_grant"}


@pytest.fixture
def world(tmp_path: Path, canary: Canary) -> Iterator[World]:
    """Three grants that were refused at their first exchange, by a server that was wrong."""
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"), access_token_lifetime=3600
    )
    with new_world(tmp_path, canary, options) as world:
        world.daemon.prepare(redis_url=world.valkey.url, clients=world.client("box"))
        world.daemon.start()
        refuse(world, 3)
        minted = [world.server.call(world.server.sandbox.mint) for _ in range(3)]
        world.import_grants(
            *(
                {"name": f"g{n}", "client": "box", "refresh_token": one.refresh_token}
                for n, one in enumerate(minted)
            )
        )
        wait_until(lambda: all(is_lost(world, n) for n in range(3)), description="lost")
        yield world


def refuse(world: World, times: int) -> None:
    """Let the server say ``invalid_grant`` to the next requests, without looking at them."""
    body = json.dumps({"error": "invalid_grant"}).encode()
    wrong = Status(code=400, body=body, headers={"Content-Type": "application/json"})
    world.server.call(lambda: world.server.sandbox.faults.enqueue(*[wrong] * times))


def is_lost(world: World, number: int) -> bool:
    return LOST.items() <= world.status(f"g{number}").items()


def is_fresh(world: World, number: int) -> bool:
    return bool(world.token(f"g{number}")) and world.status(f"g{number}")["state"] == "fresh"


def test_what_a_server_wrongly_rejected_comes_back(world: World) -> None:
    done = world.daemon.command("refresh", "--lost", "--all", "--yes")
    assert done.stdout.splitlines() == [f"g{n} is being asked for" for n in range(3)]
    wait_until(lambda: all(is_fresh(world, n) for n in range(3)), description="fresh")


def test_a_second_refusal_leaves_everything_as_it_was(world: World) -> None:
    before = world.status("g1")
    refuse(world, 1)
    seen = len(world.server.sandbox.log)
    world.daemon.command("refresh", "--lost", "g1", "--yes")
    wait_until(
        lambda: len(world.server.sandbox.log) > seen,
        description="it was asked for",
    )
    kept = ("state", "reason", "since", "repair")
    wait_until(
        lambda: all(world.status("g1").get(key) == before.get(key) for key in kept),
        description="reason and instant of the loss are back",
    )
    assert "refresher login g1" in world.status("g1")["repair"]
    world.daemon.command("refresh", "--lost", "--client", "box", "--yes")
    wait_until(lambda: all(is_fresh(world, n) for n in range(3)), description="fresh")


def test_it_is_asked_for_without_a_daemon_too(world: World) -> None:
    assert world.daemon.stop() == 0
    refuse(world, 1)
    done = world.daemon.command("refresh", "--lost", "g0", "g2", "--yes", "--json", check=0)
    answer = json.loads(done.stdout)
    assert sorted(answer["asked"]) == ["g0", "g2"]
    states = sorted(view["state"] for view in answer["grants"].values())
    assert states == ["fresh", "reauthorization_required"]


def test_the_cost_is_said_and_asked_about(world: World) -> None:
    unasked = world.daemon.command("refresh", "--lost", "--all", check=None)
    assert unasked.returncode != 0
    assert "strict rotation may" in unasked.stderr
    assert is_lost(world, 0)
    for wrong in (["--lost"], ["--lost", "--all", "g0"], ["--all"], ["g0", "g1"], []):
        assert world.daemon.command("refresh", *wrong, check=None).returncode == 2
    nobody = world.daemon.command("refresh", "--lost", "nobody", "--yes", check=1)
    assert nobody.stderr == "refresher: there is no grant named nobody\n"
