"""The vault was lost or restored, Redis was not: good tokens stay, old ones do not return."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from refresher.sandbox import SandboxOptions, TokenPolicy
from tests.canary import Canary
from tests.support.consumers import Consumers, consuming
from tests.support.waiting import wait_until
from tests.system.world import World, new_world

LISTED = """
[grants.first]
client = "box"
[grants.second]
client = "box"
[grants.strict]
client = "strict"
[grants.static]
static_token = {{ file = "static.secret" }}
expires_at = {static_end}
"""

OTHER_LIVES = ("first", "second", "strict")
"""Grants of the settings whose tokens come from imports and refreshes."""


@pytest.fixture
def world(tmp_path: Path, canary: Canary) -> Iterator[World]:
    """A daemon with a token for each grant of its settings, and a server that forgives.

    The refresh tokens of box never rotate; those of strict do, and a spent one is refused.
    """
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"),
        access_token_lifetime=600,
        rotation="none",
    )
    with new_world(tmp_path, canary, options) as world:
        strict = world.server.call(
            world.server.sandbox.register,
            policy=TokenPolicy(access_token_lifetime=600, revoke_family_on_reuse=False),
        )
        assert strict.client_secret is not None
        clients = [
            world.client("box"),
            world.client("strict", secret=strict.client_secret, client_id=strict.client_id),
        ]
        world.secret_file("static.secret", canary.plant("static-token"))
        static_end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        listed = LISTED.format(static_end=static_end)
        world.daemon.prepare(redis_url=world.valkey.url, clients="\n".join([*clients, listed]))
        world.daemon.start()
        bring(world, *OTHER_LIVES)
        wait_until(
            lambda: all(world.token(name) for name in (*OTHER_LIVES, "static")),
            description="every grant has a token",
        )
        yield world


def bring(world: World, *names: str) -> None:
    """Import a new authorization for each of NAMES."""
    sandbox, lines = world.server.sandbox, []
    for name in names:
        client = "strict" if name == "strict" else "box"
        ids = [one.client_id for one in sandbox._server.applications]
        client_id = sandbox.client.client_id
        if client == "strict":
            [client_id] = [one for one in ids if one != client_id]
        minted = world.server.call(sandbox.mint, client_id=client_id)
        lines.append({"name": name, "client": client, "refresh_token": minted.refresh_token})
    world.import_grants(*lines)


def forget_vault(world: World) -> None:
    """Remove the vault and what lies beside it, as a lost disk does."""
    for path in world.daemon.folder.glob("refresher.db*"):
        path.unlink()


def restore(world: World, copy: Path) -> None:
    """Put a copy in place of the vault, as the README says."""
    world.daemon.command("vault", "restore", "--yes", str(copy))


def renew(world: World, *names: str) -> dict[str, dict[str, str]]:
    """Let each of NAMES be refreshed; gives what can be read of it then."""
    before = {name: int(world.token(name)["version"]) for name in names}
    for name in names:
        world.daemon.command("refresh", name)
    wait_until(
        lambda: all(int(world.token(name)["version"]) > before[name] for name in names),
        description="newer tokens",
    )
    return {name: world.token(name) for name in names}


@contextmanager
def undisturbed(world: World, *names: str) -> Iterator[Consumers]:
    """Consumers of NAMES who never read an older or a refused token meanwhile."""
    with consuming(world.valkey.url, world.server, names) as consumers:
        if any(world.token(name) for name in names):
            wait_until(lambda: consumers.reads, description="a consumer has read")
        yield consumers
    assert consumers.backwards == []
    assert consumers.refused == []
    assert consumers.reads > 0


def kept(world: World) -> list[str]:
    return sorted(line["grant"] for line in world.daemon.events("mirror.earlier_life_kept"))


def await_state(world: World, name: str, state: str) -> None:
    wait_until(lambda: world.status(name).get("state") == state, description=state)


def test_a_new_vault_leaves_the_tokens_of_the_lost_one(world: World) -> None:
    before = {name: world.token(name) for name in OTHER_LIVES}
    with undisturbed(world, *OTHER_LIVES):
        assert world.daemon.stop() == 0
        forget_vault(world)
        world.daemon.start()
        for name in OTHER_LIVES:
            await_state(world, name, "pending")
        wait_until(lambda: len(kept(world)) == 3, description="one line for each")
        assert {name: world.token(name) for name in OTHER_LIVES} == before

        bring(world, "first")  # the operator authorizes one of them again
        await_state(world, "first", "fresh")
        newer = world.token("first")
        assert int(newer["version"]) > int(before["first"]["version"])

        world.daemon.stop()
        world.daemon.start()
        wait_until(lambda: len(kept(world)) == 5, description="and at the next start")
        assert world.token("first") == newer
        assert {name: world.token(name) for name in OTHER_LIVES[1:]} == {
            name: before[name] for name in OTHER_LIVES[1:]
        }
    assert kept(world) == ["first", "second", "second", "strict", "strict"]
    assert [
        line for line in world.daemon.events("mirror.foreign_overwritten") if "version" in line
    ] == []

    with world.valkey.client() as redis:
        redis.flushall()
    wait_until(lambda: world.token("first") == newer, description="the vault's own")
    await_state(world, "second", "pending")
    assert world.token("second") == {}, "nothing brings an earlier life back"


def test_what_a_person_withdraws_in_the_new_vault_is_gone(world: World) -> None:
    assert world.daemon.stop() == 0
    forget_vault(world)
    world.daemon.start()
    wait_until(lambda: len(kept(world)) == 3, description="the tokens are left")
    world.daemon.command("remove", "first", "--yes")
    wait_until(lambda: not world.token("first"), description="the token is gone")
    assert world.token("second"), "the others stay"


def test_an_older_copy_does_not_bring_its_tokens_back(world: World) -> None:
    copy = world.daemon.folder / "copy.db"
    old = {name: world.token(name) for name in OTHER_LIVES}
    world.daemon.command("vault", "backup", str(copy))
    time.sleep(1.1)  # instants are published in whole seconds
    newer = renew(world, "first", "strict")
    with undisturbed(world, *OTHER_LIVES):
        assert world.daemon.stop() == 0
        restore(world, copy)
        world.daemon.start()
        wait_until(lambda: len(kept(world)) == 2, description="one line for each")
        assert kept(world) == ["first", "strict"]
        wait_until(
            lambda: world.status("first").get("version") == old["first"]["version"],
            description="the status tells what the vault knows",
        )
        assert {name: world.token(name) for name in newer} == newer
        assert world.token("second") == old["second"]

        # The copy's refresh token of strict is spent; a refusal unpublishes nothing.
        world.daemon.command("refresh", "strict", check=None)
        await_state(world, "strict", "reauthorization_required")
        assert world.token("strict") == newer["strict"]
        newest = renew(world, "first")
        assert int(newest["first"]["version"]) > int(newer["first"]["version"])

        bring(world, "strict")
        wait_until(
            lambda: int(world.token("strict")["version"]) > int(newer["strict"]["version"]),
            description="a newer token",
        )
    with world.valkey.client() as redis:
        redis.flushall()
    wait_until(lambda: world.token("strict"), description="the token is back")
    assert int(world.token("strict")["version"]) > int(newer["strict"]["version"])


def test_the_static_token_of_the_vault_wins(world: World, canary: Canary) -> None:
    copy = world.daemon.folder / "copy.db"
    old = world.token("static")
    world.daemon.command("vault", "backup", str(copy))
    time.sleep(1.1)  # instants are published in whole seconds
    end = str(time.time() + 1800)
    other = canary.plant("other-token")
    world.daemon.command("set-token", "static", "--expires-at", end, text=other)
    wait_until(lambda: world.token("static") != old, description="a person set another one")
    assert world.daemon.stop() == 0
    restore(world, copy)
    world.daemon.start()
    wait_until(lambda: world.token("static") == old, description="the vault's own")
    assert "static" not in kept(world)

    assert world.daemon.stop() == 0
    forget_vault(world)
    secret = canary.plant("third-token")
    world.secret_file("static.secret", secret)
    world.daemon.start()
    wait_until(
        lambda: world.token("static").get("access_token") == secret,
        description="what the settings say now",
    )
    assert int(world.token("static")["version"]) > int(old["version"])


def test_a_grant_that_was_removed_unseen_does_not_come_back_with_its_token(world: World) -> None:
    before = world.token("first")
    with undisturbed(world, "first"):
        world.valkey.pause()
        try:
            world.daemon.command("remove", "first", "--yes")
            assert world.daemon.process is not None
            world.daemon.process.send_signal(signal.SIGHUP)  # the settings add it again
            wait_until(lambda: world.daemon.events("settings.reloaded"), description="added")
        finally:
            world.valkey.resume()
        wait_until(lambda: not world.token("first"), description="the token is gone")
        bring(world, "first")
        wait_until(lambda: world.token("first"), description="a new token")
        assert int(world.token("first")["version"]) > int(before["version"])
    assert kept(world) == []
