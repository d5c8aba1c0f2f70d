"""`revoke` and `remove` on a real daemon, beside an exchange, an outage and a kill."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from refresher.sandbox import Minted, SandboxOptions
from refresher.sandbox.faults import Slow
from refresher.vault.opening import open_vault
from tests.canary import Canary
from tests.support.waiting import PATIENCE, wait_until
from tests.system.world import World, new_world

AWAY = 3.0
"""Seconds an answer is under way that the server has already rotated for."""


@dataclass(slots=True, kw_only=True)
class Stage:
    """A daemon that runs, and grants whose server can revoke."""

    world: World

    def bring(self, name: str) -> Minted:
        """A grant that has had its first refresh."""
        minted = self.world.server.call(self.world.server.sandbox.mint)
        self.world.import_grants(
            {"name": name, "client": "box", "refresh_token": minted.refresh_token}
        )
        wait_until(lambda: self.world.token(name), description=f"{name} is fresh")
        return minted

    def hold_answer(self, name: str, minted: Minted) -> None:
        """Refresh NAME, and return while the answer is under way."""
        sandbox = self.world.server.sandbox
        late = Slow(seconds=AWAY, after_processing=True)
        self.world.server.call(sandbox.faults.enqueue, late, family_id=minted.family_id)
        seen = len(sandbox.log)
        self.world.daemon.command("refresh", name)
        wait_until(
            lambda: any(
                record.family_id == minted.family_id and record.processed_at is not None
                for record in list(sandbox.log)[seen:]
            ),
            description="the server has rotated",
        )

    def is_ended(self, minted: Minted) -> bool:
        """Whether nothing of the authorization lives at the server."""
        family = self.world.server.sandbox.families.find(minted.family_id)
        assert family is not None
        return family.revoked_at is not None

    def parked(self, name: str) -> list[dict[str, Any]]:
        """What `status` shows as not revoked yet."""
        done = self.world.daemon.command("status", name, "--json", check=None)
        parked: list[dict[str, Any]] = json.loads(done.stdout)["revocations"]
        return parked


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    canary = Canary()
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"), access_token_lifetime=3600
    )
    with new_world(tmp_path, canary, options) as world:
        endpoint = world.server.sandbox.revocation_endpoint
        client = world.client("box", more=f'revocation_endpoint = "{endpoint}"')
        world.daemon.prepare(redis_url=world.valkey.url, clients=client)
        world.daemon.start()
        yield Stage(world=world)


def test_revoke_waits_for_an_exchange_and_revokes_what_it_brings(stage: Stage) -> None:
    minted = stage.bring("acme")
    stage.hold_answer("acme", minted)
    done = stage.world.daemon.command("revoke", "acme", "--yes")
    assert done.stdout == "acme is revoked; `refresher login acme` authorizes it again\n"
    assert done.stderr == ""
    assert stage.is_ended(minted)
    assert stage.world.token("acme") == {}
    assert stage.world.status("acme")["reason"] == "revoked_here"
    assert stage.parked("acme") == []
    assert stage.world.daemon.events("answer.orphaned") == []
    again = stage.world.daemon.command("revoke", "acme", "--yes", "--json")
    assert json.loads(again.stdout)["revoked"] is True


def test_remove_keeps_what_comes_late_and_says_so(stage: Stage) -> None:
    minted = stage.bring("acme")
    stage.hold_answer("acme", minted)
    done = stage.world.daemon.command("remove", "acme", "--yes")
    assert "an exchange of acme is still out" in done.stderr
    wait_until(
        lambda: stage.world.daemon.events("answer.orphaned"),
        description="it is kept as an orphan",
    )
    assert not stage.is_ended(minted)
    assert stage.world.daemon.events("revocation.parked", "revocation.done") == []


def test_a_grant_removed_after_its_revocation_leaves_nothing_alive(stage: Stage) -> None:
    minted = stage.bring("acme")
    stage.hold_answer("acme", minted)
    revoke = stage.world.daemon.fork("revoke", "acme", "--yes")
    wait_until(lambda: stage.world.daemon.events("grant.revoked"), description="it is decided")
    stage.world.daemon.command("remove", "acme", "--yes")
    again = stage.bring("acme")
    wait_until(lambda: stage.is_ended(minted), description="it is revoked")
    assert revoke.wait(timeout=PATIENCE) == 0
    assert not stage.is_ended(again)
    stage.world.await_state("acme", "fresh")


def test_a_server_that_is_away_is_asked_again(stage: Stage) -> None:
    world, daemon = stage.world, stage.world.daemon
    minted = stage.bring("acme")
    with world.server.away():
        done = daemon.command("revoke", "acme", "--yes", check=1)
        assert "acme is ended here, but its server has not revoked it yet (not_sent)" in done.stderr
        assert "parked: a running daemon goes on trying until 20" in done.stderr
        assert world.token("acme") == {}
        [parked] = stage.parked("acme")
        assert (parked["name"], parked["client"], parked["count"]) == ("acme", "box", 1)
        assert parked["until"] - parked["since"] == pytest.approx(30 * 86_400)
        shown = daemon.command("status", "acme", check=3).stdout
        assert "not revoked yet at their server; a running daemon goes on trying:" in shown
    assert not stage.is_ended(minted)
    assert json.loads(daemon.command("revoke", "acme", "--yes", "--json").stdout)["revoked"]
    assert stage.is_ended(minted)
    assert stage.parked("acme") == []


def test_a_command_without_a_daemon_does_the_same(stage: Stage) -> None:
    world, daemon = stage.world, stage.world.daemon
    minted, other = stage.bring("acme"), stage.bring("other")
    assert daemon.stop() == 0
    assert "acme is revoked" in daemon.command("revoke", "acme", "--yes").stdout
    assert stage.is_ended(minted)
    assert world.token("acme") == {}
    with world.server.away():
        daemon.command("revoke", "other", "--yes", check=1)
    assert world.token("other") == {}
    assert [one["attempts"] for one in stage.parked("other")] == [1]
    assert not stage.is_ended(other)


def test_the_next_daemon_revokes_what_a_killed_one_decided(stage: Stage) -> None:
    """Killed between the transaction and the request."""
    daemon = stage.world.daemon
    minted = stage.bring("acme")
    daemon.kill()
    anyio.run(decide, daemon.folder)
    daemon.start()
    wait_until(lambda: stage.is_ended(minted), description="it is revoked")
    wait_until(lambda: stage.world.token("acme") == {}, description="no consumer reads it")
    wait_until(
        lambda: [line["grant"] for line in daemon.events("revocation.done")] == ["acme"],
        description="it is told once",
    )


async def decide(folder: Path) -> None:
    """Make the transaction of `revoke`, and nothing after it."""
    vault = await open_vault(folder / "refresher.db", folder / "refresher.key")
    try:
        grant = await vault.find("acme")
        assert grant is not None
        assert await vault.revocations.end("acme", lambda *_: True) is not None
    finally:
        vault.close()
