"""G5 for what others write: consumers, commands that secrets come from, ID tokens, labels.

Whoever writes there may write a secret, by mistake or to have it seen. The search is that of
the world: logs, outputs, statuses, events, every other key in Redis, the vault.
"""

import base64
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from refresher.sandbox import SandboxOptions
from refresher.sandbox.faults import AlterAnswer
from tests.canary import Canary
from tests.support.waiting import PATIENCE, wait_until
from tests.system.browser import LoginCommand, visit
from tests.system.world import World, new_world

SCRIPT = """
echo 'complaining of {complaint}' >&2
[ -e broken ] && echo 'printed {printed}' && exit 1
echo '{secret}'
"""
"""Of a command that a secret comes from: it complains of one, and fails once it is told to."""

CLIENT = """
[clients.web]
authorization_endpoint = "{base_url}/authorize"
token_endpoint = "{base_url}/token"
redirect_uris = ["http://127.0.0.1/callback"]
client_id = "{client_id}"
client_secret = {{ command = ["sh", "{script}"] }}
scope = ["openid", "read"]
[grants.kept]
static_token = {{ file = "static.secret" }}
labels = {{ team = "{label}" }}
"""


@dataclass
class Planted:
    """A daemon that was told secrets everywhere."""

    world: World
    labels: Canary
    """What labels hold: public in Redis, and shown by commands."""

    def status(self) -> list[dict[str, Any]]:
        """What ``status`` shows; it shows labels, so it is searched here and not in the log."""
        shown = self.world.daemon.command("status", "--json", check=None, logged=False).stdout
        assert self.world.canary.found_in(shown.encode()) == set()
        grants: list[dict[str, Any]] = json.loads(shown)["grants"]
        return grants

    def rejects(self, name: str, written: dict[str, str]) -> None:
        """A consumer's words about NAME, in both ways."""
        with self.world.valkey.client() as redis:
            redis.xadd("refresher:requests", {"grant": name, **written})
            for value in written.values():
                redis.set(f"refresher:rejected:{name}", value, ex=300)
            kept = ("refresher:requests", f"refresher:rejected:{name}")
            wait_until(lambda: not redis.exists(*kept), description="they are taken")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    canary, labels = Canary(), Canary()
    secret = canary.plant("client-secret")
    options = SandboxOptions(client_secret=secret, access_token_lifetime=3600)
    with new_world(tmp_path_factory.mktemp("planted"), canary, options) as world:
        script = SCRIPT.format(
            complaint=canary.plant("complaint"), printed=canary.plant("printed"), secret=secret
        )
        world.secret_file("script.secret", script)
        world.secret_file("static.secret", canary.plant("static"))
        clients = CLIENT.format(
            base_url=world.server.sandbox.base_url,
            client_id=world.server.sandbox.client.client_id,
            script=world.daemon.folder / "script.secret",
            label=labels.plant("of-settings"),
        )
        world.daemon.prepare(
            redis_url=world.valkey.url,
            clients=clients.replace("[ -e broken", f"[ -e {world.daemon.folder}/broken"),
        )
        world.daemon.start()
        yield Planted(world, labels)


def jwt(claims: dict[str, Any]) -> str:
    parts = [json.dumps(part).encode() for part in ({"alg": "none"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), ""])


def test_of_an_id_token_only_the_accounts_name_is_told(planted: Planted) -> None:
    world, canary = planted.world, planted.world.canary
    claims = {
        "aud": world.server.sandbox.client.client_id,
        "email": "ann@sandbox.example",
        "nonce": canary.plant("nonce"),
        "phone_number": canary.plant("phone"),
        "address": {"street_address": canary.plant("street")},
        canary.plant("claim"): True,
    }
    canary.add(jwt(claims))
    altered = AlterAnswer(members={"id_token": jwt(claims)})
    world.server.call(world.server.sandbox.faults.enqueue, altered)
    login = LoginCommand(world.daemon, "ann", "--client", "web")
    visit(login.url)
    assert "ann@sandbox.example" in login.finish()
    [ann] = [grant for grant in planted.status() if grant["name"] == "ann"]
    assert ann["authorized_by"] == "ann@sandbox.example"
    world.assert_no_leak()


@pytest.mark.parametrize("where", ["version", "reason", "field"])
def test_what_consumers_write_comes_out_nowhere(planted: Planted, where: str) -> None:
    world, secret = planted.world, planted.world.canary.plant("consumers-word")
    wait_until(lambda: world.token("kept"), description="the token")
    version = {"version": world.token("kept")["version"]}
    written = {
        "version": {"version": secret},
        "reason": version | {"reason": secret},
        "field": version | {secret: secret},
    }
    planted.rejects("kept", written[where])
    planted.rejects(secret[:40], version)
    assert planted.status()
    world.assert_no_leak()


def test_what_a_command_prints_or_complains_of_comes_out_nowhere(planted: Planted) -> None:
    world = planted.world
    broken = world.daemon.folder / "broken"
    for arguments in (["check"], ["check", "--json"], ["check", "--verbose"]):
        world.daemon.command(*arguments)
    broken.touch()
    try:
        for arguments in (["check"], ["check", "--json"], ["check", "--verbose"]):
            world.daemon.command(*arguments, check=78)
        world.daemon.hang_up()
        wait_until(lambda: world.daemon.events("settings.refused"), description="a refusal")
    finally:
        broken.unlink()
    [refused] = world.daemon.events("settings.refused")
    assert "client_secret" in json.dumps(refused), "it is told what cannot be read"
    world.assert_no_leak()


def test_labels_are_public_in_redis_and_are_told_nowhere_else(planted: Planted) -> None:
    """Consumers read them; whoever reads the log does not, and no message quotes a bad one."""
    world, labels = planted.world, planted.labels
    shown = labels.plant("of-import")
    minted = world.server.call(world.server.sandbox.mint)
    line = {"name": "lab", "client": "web", "refresh_token": minted.refresh_token}
    world.import_grants(line | {"labels": {"team": shown}})
    wait_until(lambda: world.token("lab"), description="the token")
    assert world.token("lab")["label.team"] == shown
    for bad in ("\x1b]0;owned\x07", "\n", "\u202e", "\x9b"):
        text = json.dumps(line | {"labels": {"team": labels.plant("bad") + bad}})
        told = world.daemon.command("import", "-", text=text, check=1)
        assert "control character" in told.stderr
    assert world.token("lab")["label.team"] == shown
    with world.valkey.client() as redis:
        elsewhere = [redis.hgetall("refresher:status:lab"), redis.xrange("refresher:events")]
    assert labels.found_in(str(elsewhere).encode()) == set()
    assert labels.found_in(world.daemon.log.read_bytes()) == set()
    assert labels.found_in(str(world.token("lab")).encode()) != set(), "the search finds it"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_process_shows_a_secret(planted: Planted) -> None:
    """Neither the daemon nor a command that a secret comes from, nor the login."""
    world, seen = planted.world, b""
    standby = world.daemon.spawn("run", "--standby")
    wait_until(lambda: world.daemon.events("daemon.stood_by"), description="a daemon stands by")
    login = LoginCommand(world.daemon, "seen", "--client", "web", is_listed=True)
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            seen += process.read_bytes().replace(b"\0", b" ") + b"\n"
        except OSError:  # it has ended
            continue
    visit(login.url)
    login.finish()
    standby.terminate()
    assert standby.wait(PATIENCE) == 0
    assert b"login seen" in seen
    assert b"run --standby" in seen
    assert world.canary.found_in(seen) == set()
    assert planted.labels.found_in(seen) == set()
