"""Who changed what, and kept answers, at real processes: beside a daemon and without one."""

import json
import os
import pwd
from collections.abc import Iterator
from functools import partial
from typing import Any

import anyio
import pytest

from refresher.domain.grants import Grant, GrantKind, TokenSet
from refresher.domain.secret import Secret
from refresher.sandbox import SandboxOptions
from refresher.vault.opening import open_vault
from tests.canary import Canary
from tests.support.waiting import wait_until
from tests.system.test_requests import adopt, next_version, reject
from tests.system.world import World, new_world


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> Iterator[World]:
    options = SandboxOptions(client_secret=canary.plant("client-secret"), rotation="strict")
    with new_world(tmp_path_factory.mktemp("audit"), canary, options) as world:
        world.daemon.prepare(redis_url=world.valkey.url, clients=world.client("box"))
        yield world


def changes(world: World, *arguments: str) -> list[dict[str, Any]]:
    """What ``audit`` tells, the oldest first."""
    done = world.daemon.command("audit", "--json", "--all", *arguments)
    found: list[dict[str, Any]] = json.loads(done.stdout)["changes"]
    return found[::-1]


def told(found: list[dict[str, Any]]) -> list[tuple[str, str, str | None]]:
    return [(one["by"], one["what"], one["grant"] or one["client"]) for one in found]


def test_every_change_has_its_author(world: World) -> None:
    daemon = world.daemon
    daemon.start()
    _, version = adopt(world, "acme")
    daemon.command("pause", "acme", "--for", "2h")
    daemon.command("resume", "--client", "box")
    next_version(world, "acme", version)
    reject(world, "acme", world.token("acme")["version"])
    answers = ("request.accepted", "request.deferred")
    wait_until(lambda: daemon.events(*answers), description="an answer")
    daemon.config.write_text(daemon.config.read_text() + world.client("second"))
    daemon.hang_up()
    wait_until(lambda: len(daemon.events("client.changed")) == 1, description="a new client")

    found = changes(world)
    assert [one for one in told(found) if one[0] != "consumer"] == [
        ("operator", "added", "acme"),
        ("operator", "paused", "acme"),
        ("operator", "resumed", "box"),
        ("settings", "client_added", "second"),
    ]
    pids = {one["pid"] for one in found if one["by"] == "operator"}
    assert {one["uid"] for one in found if one["by"] == "operator"} == {os.getuid()}
    assert len(pids) == 3  # import, pause and resume were a process each
    [line] = daemon.events("grant.pause_ordered")
    assert line["uid"] == os.getuid()
    assert line["pid"] in pids
    [line] = daemon.events("client.changed")
    assert (line["client"], line["outcome"]) == ("second", "client_added")
    assert "uid" not in line

    assert {one["grant"] or one["client"] for one in changes(world, "acme")} == {"acme", "box"}
    shown = daemon.command("audit", "--limit", "1", "acme").stdout
    assert shown.count("\n") == 1

    assert daemon.stop() == 0
    assert changes(world) == found
    daemon.command("remove", "acme", "--yes")
    last = daemon.command("audit", "--limit", "1").stdout
    assert " removed " in last
    assert f"by {pwd.getpwuid(os.getuid()).pw_name} (process " in last


def test_a_kept_answer_is_seen_adopted_and_dropped(world: World) -> None:
    """Adopted by the daemon that refreshes with it then; dropped without one."""
    minted = world.server.call(world.server.sandbox.mint)
    keep = partial(keep_orphans, world, [minted.refresh_token, world.canary.plant("rt")])
    world.daemon.start()
    assert world.daemon.stop() == 0
    anyio.run(keep)
    world.daemon.start()
    listed = json.loads(world.daemon.command("kept", "list", "--json").stdout)["kept"]
    assert [(one["id"], one["kind"], one["grant"]) for one in listed] == [
        ("1", "orphan", "acme"),
        ("2", "orphan", "acme"),
    ]
    done = world.daemon.command("kept", "adopt", "1", "fresh-name")
    assert done.stdout == "fresh-name has it: pending; its next attempt is due\n"
    next_version(world, "fresh-name", "0")
    refused = world.daemon.command("kept", "adopt", "2", "fresh-name", check=1)
    assert "grant fresh-name holds a refresh token that may be newer" in refused.stderr
    assert world.daemon.stop() == 0
    asked = world.daemon.command("kept", "drop", "2", text="n\n", check=1)
    assert "It may hold the only refresh token" in " ".join(asked.stderr.split())
    assert world.daemon.command("kept", "drop", "2", "--yes").stdout == (
        "kept answer 2 is forgotten\n"
    )
    gone = world.daemon.command("kept", "drop", "2", "--yes", check=1)
    assert "there is no kept answer 2" in gone.stderr
    assert world.daemon.command("kept", "list").stdout == (
        "nothing is kept: every answer has found its grant\n"
    )
    assert told(changes(world))[-2:] == [
        ("operator", "answer_adopted", "fresh-name"),
        ("operator", "answer_dropped", "acme"),
    ]


async def keep_orphans(world: World, refresh_tokens: list[str]) -> None:
    """Keep REFRESH_TOKENS, as if they had come late for a grant ``acme`` of before."""
    folder = world.daemon.folder
    vault = await open_vault(folder / "refresher.db", folder / "refresher.key")
    grant = Grant(
        id=0, uid="0", name="acme", kind=GrantKind.REFRESHABLE, client="box", origin="runtime"
    )
    for refresh_token in refresh_tokens:
        tokens = TokenSet(
            access_token=None,
            refresh_token=Secret(refresh_token),
            token_type="Bearer",
            issued_at=0.0,
            expires_at=None,
        )
        await vault.kept.keep_orphan(grant, tokens)
    vault.close()
