"""What an operator types beside a running daemon, and without one."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from refresher.cli.importing import FIELDS
from refresher.cli.status import watch
from refresher.sandbox import Application, SandboxOptions, Status, TokenPolicy
from refresher.times import NO_INSTANT
from tests.canary import Canary
from tests.support.waiting import wait_until
from tests.system.world import World, new_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("commands")
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"), access_token_lifetime=3600
    )
    with new_world(folder, canary, options) as world:
        steady = world.server.call(
            world.server.sandbox.register,
            client_id="steady",
            policy=TokenPolicy(rotation="none", access_token_lifetime=3600),
        )
        clients = [
            world.client("box"),
            steady_client(world, steady),
            "[grants.waiting]\nclient = 'box'\nlabels = { access = 'full' }",
            "[grants.static]\nstatic_token = { file = 'static.secret' }",
        ]
        world.secret_file("static.secret", canary.plant("static-token"))
        world.daemon.prepare(redis_url=world.valkey.url, clients="\n".join(clients))
        world.daemon.start()
        labels = {"access": "partial"}
        world.import_grants(
            mint(world, "shown", labels=labels, scope="read liveview"),
            *(mint(world, name) for name in ("visible", "renewed", "lonely", "again")),
            mint(world, "leaving", labels={"access": "full"}),
            *(mint(world, name, client="steady") for name in ("first", "replaced")),
        )
        for name in world.lines:
            await_token(world, name)
        yield world


def steady_client(world: World, application: Application) -> str:
    """A client whose refresh tokens stay valid."""
    client = world.client(
        "steady", client_id=application.client_id, secret=application.client_secret
    )
    return client.replace('rotation = "strict"', 'rotation = "none"')


def mint(world: World, name: str, *, client: str = "box", **fields: Any) -> dict[str, Any]:
    """The line that imports a new grant of the sandbox."""
    client_id = None if client == "box" else client
    minted = world.server.call(world.server.sandbox.mint, client_id=client_id)
    return {"name": name, "client": client, "refresh_token": minted.refresh_token, **fields}


def await_token(world: World, name: str, *, after: str = "0") -> dict[str, str]:
    """The published token of NAME, newer than version AFTER."""
    wait_until(
        lambda: int(world.token(name).get("version", 0)) > int(after),
        description=f"{name} is published",
    )
    return world.token(name)


def views(world: World, *arguments: str, check: int = 0) -> dict[str, dict[str, Any]]:
    """The grants of ``status --json``, by name."""
    done = world.daemon.command("status", "--json", *arguments, check=check)
    return {view["name"]: view for view in json.loads(done.stdout)["grants"]}


def test_status_tells_how_grants_are(world: World) -> None:
    shown = world.daemon.command("status", check=3)
    lines = shown.stdout.splitlines()
    rows = {line.split()[0]: number for number, line in enumerate(lines)}
    assert re.match(r"\d+ grants: 1 pending, \d+ fresh$", lines[0])
    assert lines[1].split() == ["GRANT", "CLIENT", "STATE", "LEFT", "NEXT", "LABELS"]
    assert rows["waiting"] == 2, "what needs somebody comes first"
    assert re.match(r" +awaiting_login, for \d+ s$", lines[3])
    assert lines[4] == "    refresher login waiting"
    assert re.search(r"\bbox +fresh +([45]\d|60) min .*access=partial", lines[rows["shown"]])
    assert shown.stderr == ""

    [view] = views(world, "shown").values()
    assert (view["state"], view["client"], view["kind"]) == ("fresh", "box", "refreshable")
    assert view["version"] == int(world.token("shown")["version"])
    assert view["labels"] == {"access": "partial"}
    assert view["scope"] == ["read", "liveview"]
    assert view["refresh_token"] is True
    assert views(world, "waiting", check=3)["waiting"]["repair"] == "refresher login waiting"
    unknown = world.daemon.command("status", "nobody", check=1)
    assert unknown.stderr == "refresher: there is no grant named nobody\n"


def test_status_takes_filters(world: World) -> None:
    assert set(views(world, "--state", "pending", check=3)) == {"waiting"}
    assert "shown" in views(world, "--client", "box", "--state", "fresh")
    assert views(world, "--client", "none") == {}
    listed = world.daemon.command("status", "--client", "steady")
    assert re.fullmatch(r"\d+ grants?\n", listed.stderr)
    assert " box " not in listed.stdout
    everything = world.daemon.command("status", "--all", check=3).stdout.splitlines()
    assert everything[1].startswith("waiting ")
    for wrong in (["shown", "--all"], ["--state", "well"], ["--watch", "--json"], ["--watch"]):
        world.daemon.command("status", *wrong, check=2)


def test_status_of_one_grant_tells_everything(world: World) -> None:
    said = world.daemon.command("status", "shown").stdout
    assert "rotation          strict: each refresh token is good once" in said
    assert "scope asked       read liveview\n" in said
    assert "labels            access=partial\n" in said
    assert re.search(r"access token      version \d+, ends 20\S+Z \(in \d+ min\)", said)


def test_a_live_view_redraws_until_ctrl_c(world: World) -> None:
    """On a terminal of its own, which is as it was before when the view has ended."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (12, 80))
    command = [*world.daemon.program, "status", "--watch"]
    # Whoever reads lines (readline) tells the size of another terminal in these.
    environment = {k: v for k, v in os.environ.items() if k not in {"LINES", "COLUMNS"}}
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=environment,
    )
    os.close(theirs)
    seen = bytearray()
    try:
        wait_until(
            lambda: read_some(ours, seen).count(watch.HOME.encode()) > 1, description="two frames"
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
        shown = read_some(ours, seen).decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert shown.startswith(watch.ENTER)
    assert shown.endswith(watch.LEAVE)
    frame = click.unstyle(shown.split(watch.HOME)[1])
    lines = [line.rstrip() for line in frame.split("\r\n")]
    assert len(lines) == 11
    assert "    refresher login waiting" in lines
    assert re.fullmatch(r"and \d+ more", re.sub(r"\x1b.*", "", lines[-1]))


def test_check_online_walks_to_servers_vault_and_redis(world: World) -> None:
    """Problems end with 78, each with its mend; a look spends nothing."""
    before = len(world.server.sandbox.log)
    done = world.daemon.command("check", "--online")
    for line in (
        "the settings are good",
        "good: client box: its token_endpoint at ",
        "good: client steady: the clock of its server and ours agree",
        "good: vault: a daemon reads it: ",
        "good: Redis at 127.0.0.1:",
    ):
        assert line in done.stdout
    assert "client box" not in world.daemon.command("check", "--online", "steady").stdout
    of_grant = world.daemon.command("check", "--online", "waiting")
    assert "doubt: grant waiting: is pending (awaiting_login)\n" in of_grant.stderr
    assert "    refresher login waiting\n" in of_grant.stderr
    assert "client steady" not in of_grant.stdout
    nobody = world.daemon.command("check", "--online", "nobody", check=1)
    assert "there is no client or grant named nobody" in nobody.stderr
    world.daemon.command("check", "steady", check=2)
    with world.server.away():
        told = world.daemon.command("check", "--online", "box", "--json", check=78)
    answer = json.loads(told.stdout)
    assert (answer["ok"], answer["problems"]) == (False, [])
    bad = [one for one in answer["online"] if one["level"] == "problem"]
    assert {one["subject"] for one in bad} == {"client box"}
    for problem in bad:
        assert problem["text"].endswith("cannot be reached: nothing listens there")
        assert problem["mend"].endswith("check host and port")
    sent_meanwhile = world.server.sandbox.log[before:]
    # What the look sends is refused for want of everything, and is about no grant.
    assert [one for one in sent_meanwhile if one.error and one.family_id is not None] == []


def read_some(terminal: int, seen: bytearray) -> bytearray:
    """SEEN, with what can be read from TERMINAL now."""
    while select.select([terminal], [], [], 0)[0]:
        try:
            seen += os.read(terminal, 65536)
        except OSError:  # its other end is closed
            break
    return seen


def test_token_prints_the_token_alone(world: World) -> None:
    token = world.token("visible")
    done = world.daemon.command("token", "visible", logged=False)
    assert done.stdout == token["access_token"] + "\n"
    as_json = world.daemon.command("token", "visible", "--json", logged=False)
    assert json.loads(as_json.stdout) == token

    waiting = world.daemon.command("token", "waiting", check=3)
    assert waiting.stdout == ""
    assert "(pending: awaiting_login)\nrepair: refresher login waiting\n" in waiting.stderr
    nobody = world.daemon.command("token", "nobody", check=1)
    assert nobody.stderr == "refresher: Redis holds no valid token for nobody\n"


def test_refresh_makes_the_daemon_fetch_a_token(world: World) -> None:
    before = world.token("renewed")
    done = world.daemon.command("refresh", "renewed")
    assert done.stdout == "renewed is being refreshed\n"
    after = await_token(world, "renewed", after=before["version"])
    assert after["access_token"] != before["access_token"]
    static = world.daemon.command("refresh", "static", check=3)
    assert "static cannot be refreshed" in static.stderr
    nobody = world.daemon.command("refresh", "nobody", check=1)
    assert nobody.stderr == "refresher: there is no grant named nobody\n"


def test_commands_work_without_a_daemon(world: World) -> None:
    before = world.token("lonely")
    assert world.daemon.stop() == 0
    try:
        assert world.daemon.command("refresh", "lonely").stdout == "lonely: done\n"
        after = world.token("lonely")
        assert int(after["version"]) > int(before["version"])

        world.server.call(world.server.sandbox.faults.enqueue, Status(code=503))
        failed = world.daemon.command("refresh", "lonely", check=1)
        assert "refresher: lonely was not refreshed" in failed.stderr
        assert world.token("lonely") == after

        shown = world.daemon.command("status", "lonely")
        assert "no daemon is running: nothing is being refreshed" in shown.stderr
        assert world.daemon.command("health", check=1).stdout == "failed\n"
    finally:
        world.daemon.start()
    assert world.token("lonely") == after


def test_health_asks_two_questions(world: World) -> None:
    assert world.daemon.command("health").stdout == "ok\n"
    assert world.daemon.command("health", "--ready").stdout == "ok\n"


def test_a_bad_line_imports_nothing(world: World) -> None:
    secret = world.canary.plant("refresh-token")
    good = {"client": "box", "refresh_token": secret}
    lines = [
        json.dumps({"name": "half-1", **good}),
        '{"name": "half-2", "client": "box", "refresh_token": "' + secret,
        json.dumps([secret]),
        json.dumps({"name": "half-4", "client": "none", "refresh_token": secret}),
        json.dumps({"name": "half 5", **good}),
        json.dumps({"name": "half-6", "client": "box"}),
        json.dumps({"name": "half-7", **good, "refresh": secret}),
        json.dumps({"name": "half-8", **good, "expires_at": "tomorrow"}),
        json.dumps({"name": "half-9", **good, "expires_at": float("nan")}),
        json.dumps({"name": "half-10", **good, "expires_at": 1_795_000_000_000}),
        json.dumps({"name": "half-11", **good, "labels": {"Access": "full"}}),
        json.dumps({"name": "half-12", **good, "labels": {"access": 1}}),
        json.dumps({"name": "half-13", "client": "box", "refresh_token": "\ud800"}),
        json.dumps({"name": "half-1", **good}),
        "",
        json.dumps({"name": "half-16", **good}),
    ]
    done = world.daemon.command("import", "-", text="\n".join(lines), check=1)
    told = [
        "line 2: not valid JSON",
        "line 3: not a JSON object",
        "line 4: there is no client of this name: there are box, steady",
        "line 5: name is outside the alphabet (1 to 128 of A-Z a-z 0-9 . _ : @ + -)",
        "line 6: refresh_token is missing",
        f"line 7: unknown field 'refresh': there are {', '.join(FIELDS)}",
        f"line 8: expires_at {NO_INSTANT}",
        "line 9: expires_at is no time in unix seconds",
        "line 10: expires_at is no time in unix seconds",
        "line 11: labels must be strings, their keys of a-z 0-9 _ only",
        "line 12: labels must be strings, their keys of a-z 0-9 _ only",
        "line 13: refresh_token holds a control character, or half of a surrogate pair",
        "line 14: its name stands on line 1 too",
        "line 16: its refresh token stands on line 1 too",
        "nothing was imported",
    ]
    assert done.stderr.removeprefix("refresher: ").splitlines() == told
    assert not any(name.startswith("half") for name in views(world, check=3))


def test_one_refresh_token_belongs_to_one_grant(world: World) -> None:
    lines = [mint(world, "innocent"), {**world.lines["first"], "name": "second"}]
    done = world.daemon.command("import", "-", text="\n".join(map(json.dumps, lines)), check=1)
    assert done.stderr == (
        "refresher: grant second: its refresh token already belongs to grant first\n"
    )
    assert not {"innocent", "second"} & views(world, check=3).keys()


def test_an_import_repeated_changes_nothing(world: World) -> None:
    token = world.token("again")
    done = world.import_grants(world.lines["again"])
    assert done.stdout == "again: unchanged, fresh\n"
    assert world.token("again") == token


def test_an_import_says_that_a_token_is_spent(world: World) -> None:
    line = world.lines["again"] | {"name": "elsewhere"}
    done = world.daemon.command("import", "-", text=json.dumps(line))
    assert done.stdout == (
        "elsewhere: added, pending: its refresh token was adopted or rejected before; "
        "refresher login elsewhere\n"
    )
    assert world.daemon.command("remove", "elsewhere", "--yes").stdout


def test_replace_adopts_a_token_again(world: World) -> None:
    first, second = world.lines["replaced"], mint(world, "replaced", client="steady")
    versions = [world.token("replaced")["version"]]
    for line, options, result in (
        (second, [], "adopted"),
        (first, [], "unchanged"),
        (first, ["--replace"], "adopted"),
    ):
        done = world.daemon.command("import", "-", "--json", *options, text=json.dumps(line))
        assert json.loads(done.stdout)["result"] == result
        if result == "adopted":
            token = await_token(world, "replaced", after=versions[-1])
            versions.append(token["version"])
            assert family_of(token["access_token"]) == family_of(line["refresh_token"])


def family_of(token: str) -> str:
    """The authorization a token of the sandbox grew out of: KIND-family-N-GENERATION-..."""
    return token.split("-")[2]


def test_an_access_token_comes_along(world: World) -> None:
    minted = world.server.call(world.server.sandbox.mint)
    line = {
        "name": "complete",
        "client": "box",
        "refresh_token": minted.refresh_token,
        "access_token": minted.access_token,
        "expires_at": 4_000_000_000,
    }
    assert world.import_grants(line).stdout == "complete: added, fresh\n"
    token = await_token(world, "complete")
    assert token["access_token"] == minted.access_token
    assert token["expires_at"] == "4000000000"
    assert minted.family_id not in {record.family_id for record in world.server.sandbox.log}


def test_remove_forgets_and_versions_go_on(world: World) -> None:
    before = world.token("leaving")
    kept = world.daemon.command("remove", "leaving", text="n\n", check=1)
    assert "forget leaving and its refresh token for good?" in kept.stderr
    assert kept.stderr.endswith("stopped\n")
    assert world.token("leaving") == before

    done = world.daemon.command("remove", "leaving", "--yes")
    assert done.stdout == "leaving is removed\n"
    assert done.stderr.startswith("its tokens were not revoked: at the server of client ")
    [line] = [line for line in world.daemon.events("grant.removed") if line["grant"] == "leaving"]
    assert line["reason"] == "not revoked at its server"
    wait_until(
        lambda: world.status("leaving")["state"] == "removed",
        description="consumers are told",
    )
    assert world.token("leaving") == {}
    again = world.daemon.command("remove", "leaving", "--yes", check=1)
    assert again.stderr == "refresher: there is no grant named leaving\n"

    world.import_grants(mint(world, "leaving"))
    after = await_token(world, "leaving")
    assert int(after["version"]) > int(before["version"])
    assert "label.access" not in after
    world.await_state("leaving", "fresh")


def test_commands_answer_programs_in_json(world: World, tmp_path: Path) -> None:
    daemon = world.daemon
    health = json.loads(daemon.command("health", "--json").stdout)
    assert health == {"ok": True, "reasons": []}
    copy = tmp_path / "copy.db"
    backup = json.loads(daemon.command("vault", "backup", str(copy), "--json").stdout)
    assert backup == {"file": str(copy), "bytes": copy.stat().st_size}
    world.import_grants(mint(world, "program"))
    await_token(world, "program")
    refused = daemon.command("revoke", "program", "--yes", "--json", check=1)
    assert "was not revoked (unsupported): nothing has changed" in refused.stderr
    removed = json.loads(daemon.command("remove", "program", "--yes", "--json").stdout)
    assert removed == {"removed": "program", "exchange_out": False}
