"""Consumers' requests at a real daemon: they bring a refresh, and nothing else."""

import time
from collections.abc import Iterator

import pytest

from refresher.sandbox import Minted, SandboxOptions
from refresher.sandbox.faults import DropAfter
from tests.canary import Canary
from tests.support.waiting import wait_until
from tests.system.world import World, new_world

LIFETIME = 40.0
"""Seconds an access token lives: consumers are heard every 10 s."""

LAST_ID = "18446744073709551615-18446744073709551615"

ANSWERS = ("request.accepted", "request.deferred", "request.refused")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A daemon with a client that waits for an operator, and one that does not."""
    canary = Canary()
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"),
        rotation="strict",
        access_token_lifetime=LIFETIME,
    )
    with new_world(tmp_path_factory.mktemp("requests"), canary, options) as world:
        clients = world.client("box") + world.client("pausing", more='on_unknown_outcome = "pause"')
        world.secret_file("pat.secret", canary.plant("static"))
        clients += '[grants.pat]\nstatic_token = { file = "pat.secret" }\n'
        world.daemon.prepare(redis_url=world.valkey.url, clients=clients)
        world.daemon.start()
        yield world


def adopt(world: World, name: str, client: str = "box") -> tuple[Minted, str]:
    """A grant NAME whose token is published; the version of that."""
    minted = world.server.call(world.server.sandbox.mint)
    line = {"name": name, "client": client, "refresh_token": minted.refresh_token}
    world.import_grants(line)
    return minted, next_version(world, name, "0")


def next_version(world: World, name: str, before: str) -> str:
    """The version of NAME that comes after BEFORE."""
    wait_until(
        lambda: int(world.token(name).get("version", "0")) > int(before),
        description=f"a new token of {name}",
    )
    return world.token(name)["version"]


def reject(world: World, name: str, version: str, way: str = "key") -> None:
    with world.valkey.client() as redis:
        if way == "key":
            redis.set(f"refresher:rejected:{name}", version, ex=300)
        else:
            entry = {"grant": name, "version": version, "reason": "401"}
            redis.xadd("refresher:requests", entry)


def answer(world: World, name: str) -> str | None:
    return world.status(name).get("request")


def exchanges(world: World, minted: Minted) -> int:
    """How often the server was asked for the family of MINTED."""
    log = world.server.call(lambda: list(world.server.sandbox.log))
    return len([one for one in log if one.family_id == minted.family_id])


def told(world: World, name: str) -> list[tuple[str, str]]:
    """What became of consumers' requests for NAME, by the log."""
    lines = [line for line in world.daemon.events(*ANSWERS) if line["grant"] == name]
    return [(line["event"], line["outcome"]) for line in lines if "outcome" in line]


def test_a_pause_waits_for_an_operator_whoever_asks(world: World) -> None:
    """Else the spent refresh token is presented again, and the server ends the family."""
    minted, _ = adopt(world, "held", "pausing")
    enqueue = world.server.sandbox.faults.enqueue
    world.server.call(lambda: enqueue(DropAfter(), family_id=minted.family_id))
    world.daemon.command("refresh", "held")
    wait_until(lambda: world.status("held").get("state") == "paused", description="the pause")
    version, asked = world.status("held")["version"], exchanges(world, minted)
    for way in ("key", "stream"):
        reject(world, "held", version, way)
        wait_until(lambda: answer(world, "held") == "paused", description="an answer")
    with world.valkey.client() as redis:
        kept = ("refresher:rejected:held", "refresher:requests")
        wait_until(lambda: not redis.exists(*kept), description="both are taken")
        events = [event for _, event in redis.xrange("refresher:events")]
    world.await_state("held", "paused")
    assert exchanges(world, minted) == asked
    assert told(world, "held") == [("request.refused", "paused")]
    asks = [one for one in events if one["grant"] == "held" and one["event"] == "request"]
    assert [(one["version"], one["request"]) for one in asks] == [(version, "paused")]


def test_a_second_rejection_is_deferred_through_a_restart(world: World) -> None:
    _, first = adopt(world, "twice")
    reject(world, "twice", first)
    second = next_version(world, "twice", first)
    reject(world, "twice", second)
    wait_until(lambda: answer(world, "twice") == "deferred", description="the deferral")
    until = int(world.status("twice")["request_until"])
    assert int(world.status("twice")["next_attempt_at"]) == until
    world.daemon.kill()
    world.daemon.start()
    third = next_version(world, "twice", second)
    assert time.time() >= until
    assert int(third) < (until + LIFETIME / 4) * 1000, "sooner than by itself"
    assert told(world, "twice")[:2] == [
        ("request.accepted", "accepted"),
        ("request.deferred", "deferred"),
    ]
    assert answer(world, "twice") is None


@pytest.mark.parametrize("damage", ["last id", "wrong type", "too large"])
def test_whatever_is_written_the_next_request_is_heard(world: World, damage: str) -> None:
    name = damage.replace(" ", "-")
    _, version = adopt(world, name)
    with world.valkey.client() as redis:
        match damage:
            case "last id":
                redis.execute_command("XADD", "refresher:requests", LAST_ID, "grant", "nobody")
            case "wrong type":
                redis.set("refresher:requests", "no stream")
                redis.sadd(f"refresher:rejected:{name}", "no string")
            case _:
                large = "x" * 2**23
                for _ in range(20):
                    redis.xadd("refresher:requests", {"grant": name, "reason": large})
        wait_until(
            lambda: not redis.exists("refresher:requests", f"refresher:rejected:{name}"),
            description="it is thrown away",
        )
    reject(world, name, version, "stream")
    next_version(world, name, version)
    reasons = [line["reason"] for line in world.daemon.events("request.dropped")]
    expected = {"last id": "malformed", "wrong type": "wrong_type", "too large": "too_large"}
    assert reasons.count(expected[damage]) == 1


def test_a_static_token_that_is_rejected_needs_somebody(world: World) -> None:
    version = next_version(world, "pat", "0")
    reject(world, "pat", version)
    wait_until(
        lambda: world.status("pat").get("reason") == "token_rejected",
        description="it is told",
    )
    assert world.token("pat")["version"] == version
    assert world.status("pat")["repair"] == "refresher set-token pat"
    [lost] = [line for line in world.daemon.events("grant.lost") if line["grant"] == "pat"]
    assert lost["reason"] == "token_rejected"


def test_a_version_that_no_vault_made_is_ignored(world: World) -> None:
    _, version = adopt(world, "ahead")
    reject(world, "ahead", str(2**53))
    reject(world, "ahead", str(int(version) + 1), "stream")
    with world.valkey.client() as redis:
        kept = ("refresher:rejected:ahead", "refresher:requests")
        wait_until(lambda: not redis.exists(*kept), description="both are taken")
    assert told(world, "ahead") == []
    assert answer(world, "ahead") is None
