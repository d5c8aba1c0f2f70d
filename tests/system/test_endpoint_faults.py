"""G3, G6 and G7 at a token endpoint that fails: a real daemon, judged by the server's log.

What a fault costs is asked of the server: it knows which refresh token came when, and
revokes a whole family when one comes that it must not.
"""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from refresher.sandbox import Minted, SandboxOptions
from refresher.sandbox.exchange_log import ExchangeRecord, overlaps
from refresher.sandbox.faults import (
    DropAfter,
    DropBefore,
    Fault,
    Raw,
    RetryAfter,
    Slow,
    Status,
    StatusAfter,
    Truncate,
)
from tests.canary import Canary
from tests.support.waiting import wait_until
from tests.system.world import World, new_world

LIFETIME = 4.0
"""Seconds an access token lives."""

GRACE = 30.0

LOST: Mapping[str, tuple[Fault, ...]] = {
    "closed": (DropAfter(),),
    "reset": (DropAfter(reset=True),),
    "gateway": (StatusAfter(),),
    "truncated": (Truncate(),),
    "html": (Raw(after_processing=True),),
    "late": (Slow(seconds=9.0, after_processing=True),),
    "thrice": (DropAfter(), StatusAfter(), Truncate()),
}
"""Answers that never came although the server has rotated, by the name of the grant."""

REFUSED: Mapping[str, tuple[Fault, ...]] = {
    "unavailable": (Status(),),
    "forbidden": (Status(code=403),),
    "page": (Raw(),),
    "throttled": (RetryAfter(),),
    "until": (RetryAfter(as_date=True),),
    "closed": (DropBefore(),),
    "reset": (DropBefore(reset=True),),
    "many": (Status(), RetryAfter(), DropBefore(), Status(code=403)),
}
"""Requests that the server did not process, by the name of the grant."""


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A daemon that runs, at a server whose rotation it knows."""
    rotation: str = request.param
    canary = Canary()
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"),
        rotation=rotation.partition("(")[0],  # type: ignore[arg-type]  # the server's names
        grace_seconds=GRACE,
        access_token_lifetime=LIFETIME,
    )
    with new_world(tmp_path, canary, options) as world:
        clients = world.client("box").replace('"strict"', f'"{rotation}"')
        world.daemon.prepare(redis_url=world.valkey.url, clients=clients)
        world.daemon.start()
        yield world


def add(world: World, faults: Mapping[str, tuple[Fault, ...]]) -> dict[str, Minted]:
    """Grants with a token that lives on; the first exchanges of each meet its faults."""
    minted = {name: world.server.call(world.server.sandbox.mint) for name in faults}
    for name, grant in minted.items():
        plan = world.server.sandbox.faults
        for fault in faults[name]:
            world.server.call(plan.enqueue, fault, family_id=grant.family_id)
    world.import_grants(*(line(name, grant) for name, grant in minted.items()))
    return minted


def line(name: str, minted: Minted) -> dict[str, Any]:
    return {
        "name": name,
        "client": "box",
        "refresh_token": minted.refresh_token,
        "access_token": minted.access_token,
        "expires_at": time.time() + LIFETIME,
    }


def exchanges(world: World, minted: Minted) -> list[ExchangeRecord]:
    log = list(world.server.sandbox.log)
    return [record for record in log if record.family_id == minted.family_id]


def is_healed(
    world: World, minted: Mapping[str, Minted], faults: Mapping[str, tuple[Fault, ...]]
) -> bool:
    """Whether every grant has met its faults, and has had an answer since."""
    return all(
        len(exchanges(world, grant)) > len(faults[name])
        and exchanges(world, grant)[len(faults[name])].answered_at is not None
        and world.status(name).get("state") == "fresh"
        for name, grant in minted.items()
    )


def assert_intact(world: World) -> None:
    """Nothing is lost at either side, and no grant had two requests in flight."""
    assert world.daemon.events("grant.lost") == []
    families = world.server.sandbox.families
    assert [family.family_id for family in families if family.revoked_at is not None] == []
    assert overlaps(list(world.server.sandbox.log)) == []


@pytest.mark.parametrize(
    "world", ["grace(30)", pytest.param("until_used", marks=pytest.mark.long)], indirect=True
)
def test_answers_that_got_lost_cost_no_grant(world: World) -> None:
    """They are asked for again, with the same refresh token, inside the window."""
    minted = add(world, LOST)
    wait_until(
        lambda: is_healed(world, minted, LOST),
        every=0.1,
        description="every grant is fresh again",
    )
    assert_intact(world)
    for name, grant in minted.items():
        first, *replays = exchanges(world, grant)[: len(LOST[name]) + 1]
        again = [record for record in replays if record.generation == first.generation]
        # Where a lost answer costs more than patience, a late one is still read.
        assert again == replays or (name, again) == ("late", [])
        assert all(record.arrived_at - first.arrived_at < 0.66 * GRACE for record in again)


@pytest.mark.parametrize("world", ["strict"], indirect=True)
def test_refusals_that_mean_nothing_cost_nothing(world: World) -> None:
    """No published token goes before its end, and no refresh token is given up."""
    minted, ends = add(world, REFUSED), dict.fromkeys(REFUSED, 0.0)

    def all_healed() -> bool:
        for name in minted:
            token = world.token(name)
            assert token or time.time() > ends[name] - 1, f"{name} was unpublished"
            ends[name] = float(token.get("expires_at", ends[name]))
        return is_healed(world, minted, REFUSED)

    wait_until(all_healed, every=0.1, description="every grant is fresh again")
    assert_intact(world)


@pytest.mark.parametrize("world", ["strict"], indirect=True)
def test_a_dead_refresh_token_is_sent_once(world: World) -> None:
    """Whoever asks: consumers, an operator, a reload, a restart, the same line imported."""
    name, minted = "dead", world.server.call(world.server.sandbox.mint)
    # Never served, so not doubted: lost at its first refusal.
    world.server.call(world.server.sandbox.revoke_family, minted.family_id)
    world.import_grants({"name": name, "client": "box", "refresh_token": minted.refresh_token})
    wait_until(
        lambda: world.status(name).get("state") == "reauthorization_required",
        description="the loss is announced",
    )
    sent = len(exchanges(world, minted))
    with world.valkey.client() as redis:
        redis.xadd("refresher:requests", {"grant": name, "version": 1, "reason": "401"})
        redis.set(f"refresher:rejected:{name}", 1)
    world.daemon.command("refresh", name, check=None)
    world.daemon.hang_up()
    world.daemon.command("import", "-", text=json.dumps(world.lines[name]), check=None)
    assert world.daemon.stop() == 0
    world.daemon.start()
    world.daemon.command("refresh", name, check=None)
    time.sleep(1)
    assert len(exchanges(world, minted)) == sent
    assert len(world.daemon.events("grant.lost")) == 1
    assert world.status(name)["repair"].startswith(f"refresher login {name}; ")
