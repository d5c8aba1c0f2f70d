"""G5 while everything fails: a daemon that logs at debug level meets every fault there is."""

import time
from functools import partial
from pathlib import Path

import anyio
import pytest

from refresher.ops.control_client import ControlClient
from refresher.sandbox import SandboxOptions
from refresher.sandbox.faults import (
    AlterAnswer,
    DropAfter,
    DropBefore,
    Echo,
    Fault,
    Raw,
    Redirect,
    RetryAfter,
    Slow,
    Status,
    StatusAfter,
    Truncate,
)
from refresher.settings.loading import load
from tests.canary import Canary
from tests.support.waiting import wait_until
from tests.system.world import World, new_world

GRANTS = 12
LIFETIME = 3.0

FAULTS: tuple[Fault, ...] = (
    Status(),
    Status(code=403),
    StatusAfter(),
    DropBefore(),
    DropBefore(reset=True),
    DropAfter(),
    DropAfter(reset=True),
    Slow(seconds=0.5, after_processing=True),
    Truncate(),
    Raw(),
    Raw(after_processing=True),
    Raw(body=b'{"refresh_token": 17, "access_token": null}'),
    RetryAfter(as_date=True),
    Redirect(),
    Redirect(code=302, location="https://elsewhere.example/"),
    AlterAnswer(without=("access_token",)),
    AlterAnswer(without=("expires_in",)),
    AlterAnswer(members={"expires_in": "soon", "scope": ["a", 7]}),
    AlterAnswer(members={"error": "server_error"}),
    AlterAnswer(form_encoded=True),
    Echo(),
    Echo(code=200, error="temporarily_unavailable"),
    Echo(code=401, error="never heard of it"),
    Echo(code=500, error="server_error"),
    Echo(code=503, error="slow_down"),
    Echo(code=400, error="invalid_scope"),
    Echo(code=401, error="invalid_client"),
    Echo(code=400, error="invalid_grant"),
)
"""Every kind of the sandbox, and an echo of every meaning an error code can have."""


@pytest.mark.parametrize("placement", ["form", "query"])
def test_no_fault_brings_a_secret_out(tmp_path: Path, placement: str) -> None:
    """Each grant meets its own few faults; the search at the end is that of the world."""
    canary = Canary()
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"),
        rotation="grace",
        grace_seconds=30,
        access_token_lifetime=LIFETIME,
        parameters_in="either",
    )
    with new_world(tmp_path, canary, options) as world:
        more = f'placement = "{placement}"\nclient_authentication = "client_secret_post"'
        clients = [register(world, number, canary, more) for number in range(GRANTS)]
        text = "".join(clients).replace('"strict"', '"grace(30)"')
        world.daemon.prepare(redis_url=world.valkey.url, clients=text)
        world.daemon.start()
        meet_faults(world, canary)
        kinds = set(world.server.sandbox.injected)
        assert kinds == {fault.kind for fault in FAULTS}


def register(world: World, number: int, canary: Canary, more: str) -> str:
    """Settings of an application of its own: a refused one holds back no other grant."""
    secret = canary.plant(f"client-secret-{number}")
    known = world.server.call(
        world.server.sandbox.register, client_id=f"app{number}", client_secret=secret
    )
    return world.client(f"box{number}", secret=secret, client_id=known.client_id, more=more)


def meet_faults(world: World, canary: Canary) -> None:
    """Let every fault happen to some grant; an operator asks for the next refresh all the time.

    Consumers ask too, and their reasons are secrets: whatever they write comes out nowhere.
    """
    server, lines = world.server, []
    for number in range(GRANTS):
        minted = server.call(server.sandbox.mint, client_id=f"app{number}")
        own = FAULTS[number::GRANTS]
        server.call(partial(server.sandbox.faults.enqueue, *own, family_id=minted.family_id))
        lines.append(
            {
                "name": f"g{number}",
                "client": f"box{number}",
                "refresh_token": minted.refresh_token,
                "access_token": minted.access_token,
                "expires_at": time.time() + LIFETIME,
            }
        )
    world.import_grants(*lines)
    with world.valkey.client() as redis:
        for line in lines:
            name = line["name"]
            version = redis.hget(f"refresher:token:{name}", "version") or 1
            reason = canary.plant("consumers-reason")
            redis.xadd("refresher:requests", {"grant": name, "version": version, "reason": reason})
            redis.xadd("refresher:requests", {"grant": reason, "version": reason})
            redis.set("refresher:rejected:x", reason)
    control = ControlClient(load(world.daemon.config).settings.control.socket)

    async def ask() -> None:
        for line in lines:
            await control.call("refresh", name=str(line["name"]))

    def all_met() -> bool:
        anyio.run(ask)
        return sum(server.sandbox.injected.values()) >= len(FAULTS)

    wait_until(all_met, every=0.5, description="every fault was met")
