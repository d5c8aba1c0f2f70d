"""From an issuer, or the URL of a resource, to a published token, on real processes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from refresher.sandbox import Openness, Raw, SandboxOptions
from tests.canary import Canary
from tests.support.sandbox import sandbox_thread
from tests.support.waiting import wait_until
from tests.system.browser import LoginCommand, parameters, where_it_leads
from tests.system.world import World, new_world

REDIRECT = "http://127.0.0.1/callback"

CLIENT = """
[clients.app]
redirect_uris = ["{redirect}"]
rotation = "strict"
{more}
"""

KNOWN = """
client_id = "sandbox-client"
client_secret = {{ file = "app.secret" }}
issuer = "{base_url}"
"""


@contextmanager
def discovering(
    folder: Path, canary: Canary, openness: dict[str, Any], more: str, *, starts: bool = True
) -> Iterator[World]:
    """A daemon with one client that leaves to its server what MORE does not say."""
    secret = canary.plant("client-secret")
    options = SandboxOptions(client_secret=secret, openness=Openness(**openness))
    with new_world(folder, canary, options) as world:
        told = more.format(base_url=world.server.sandbox.base_url)
        world.secret_file("app.secret", secret)
        clients = CLIENT.format(redirect=REDIRECT, more=told)
        world.daemon.prepare(redis_url=world.valkey.url, clients=clients)
        if starts:
            world.daemon.start()
        yield world


def log_in(world: World, name: str = "acme") -> str:
    """Log NAME in; the authorization URL that the person opened."""
    login = LoginCommand(world.daemon, name, "--client", "app", "--no-browser")
    login.finish(f"{where_it_leads(login.url)}\n")
    wait_until(lambda: world.token(name), description=f"{name} is published")
    return login.url


def refresh(world: World, name: str = "acme") -> None:
    """Refresh NAME and see the next token published."""
    before = world.token(name)["version"]
    world.daemon.command("refresh", name)
    wait_until(
        lambda: int(world.token(name).get("version", 0)) > int(before),
        description=f"{name} is refreshed",
    )
    [*_, last] = world.server.sandbox.log
    assert (last.grant_type, last.status) == ("refresh_token", 200)


def audited(world: World) -> list[tuple[str, str, str]]:
    """What the change log has of the client: what, by whom, and what more; the oldest first."""
    told = json.loads(world.daemon.command("audit", "--json").stdout)["changes"]
    lines = [(one["what"], one["by"], one["detail"]) for one in told if one["client"] == "app"]
    return [line for line in lines[::-1] if line[0] in {"discovered", "registered"}]


def said(world: World, event: str) -> list[dict[str, Any]]:
    return [line for line in world.daemon.events(event) if line.get("client") == "app"]


def client_of(world: World) -> dict[str, Any]:
    """What ``status`` knows of the client."""
    answer = json.loads(world.daemon.command("status", "--json", check=None).stdout)
    [view] = answer["clients"]
    known: dict[str, Any] = view
    return known


@pytest.mark.parametrize("metadata", ["oauth", "openid"])
def test_an_issuer_is_enough(tmp_path: Path, canary: Canary, metadata: str) -> None:
    with discovering(tmp_path, canary, {"metadata": metadata}, KNOWN) as world:
        base_url = world.server.sandbox.base_url
        assert log_in(world).startswith(f"{base_url}/authorize?")
        refresh(world)
        [line] = said(world, "metadata.read")
        assert line["server"] == base_url
        told = world.daemon.command("status", "acme").stdout
        assert f"metadata of {base_url} read" in told
        assert f"token_endpoint: {base_url}/token" in told
        checked = world.daemon.command("check", "--online").stdout
        assert f"token_endpoint: {base_url}/token" in checked
        assert "the metadata of its issuer name its endpoints" in checked
        # The way to revoke comes from the metadata too.
        world.daemon.command("revoke", "acme", "--yes")
        assert all(family.revoked_at is not None for family in world.server.sandbox.families)


@pytest.mark.parametrize("found", ["challenge", "path", "host"])
def test_the_url_of_a_resource_is_enough(tmp_path: Path, canary: Canary, found: str) -> None:
    more = KNOWN.replace("issuer = ", "resource = ").replace("{base_url}", "{base_url}/mcp")
    with discovering(tmp_path, canary, {"resource": found}, more) as world:
        base_url = world.server.sandbox.base_url
        expected = base_url if found == "host" else f"{base_url}/mcp"
        # The server gives tokens for that resource alone, at login, for the code and at refresh.
        assert parameters(log_in(world))["resource"] == expected
        refresh(world)
        assert client_of(world)["issuer"] == base_url


def test_a_start_needs_no_server(tmp_path: Path, canary: Canary) -> None:
    with discovering(tmp_path, canary, {}, KNOWN) as world:
        log_in(world)
        assert world.daemon.stop() == 0
        with world.server.away():
            world.daemon.start()
            view = client_of(world)
            assert view["endpoints"]["token_endpoint"] == world.server.sandbox.token_endpoint
        refresh(world)
        assert len(said(world, "metadata.read")) == 1


def test_a_server_that_is_away_at_first_is_found_when_it_is_back(
    tmp_path: Path, canary: Canary
) -> None:
    with discovering(tmp_path, canary, {}, KNOWN, starts=False) as world:
        token = world.server.refresh_tokens(1)[0]
        canary.add(token)
        with world.server.away():
            world.daemon.start()
            world.import_grants({"name": "acme", "client": "app", "refresh_token": token})
            wait_until(
                lambda: world.status("acme").get("reason") == "unreachable:not_discovered",
                description="the grant waits for its server",
            )
            assert "refresher discover app" in world.status("acme")["repair"]
            [line] = said(world, "metadata.missed")
            assert "nothing listens there" in line["reason"]
        world.daemon.command("discover", "app")
        wait_until(lambda: world.token("acme"), description="the grant is served")


def test_nothing_follows_endpoints_to_another_host_by_itself(
    tmp_path: Path, canary: Canary
) -> None:
    with discovering(tmp_path, canary, {}, KNOWN) as world:
        log_in(world)
        sandbox = world.server.sandbox
        elsewhere = SandboxOptions(client_secret=canary.plant("other"))
        with sandbox_thread(elsewhere) as other:
            changes = {"token_endpoint": other.sandbox.token_endpoint}
            sandbox.introducing.changes.update(changes)
            refused = world.daemon.command("discover", "app")
            assert "nothing is sent there" in refused.stderr
            assert "discover app --accept" in refused.stderr
            [line] = said(world, "metadata.refused")
            assert urlsplit(changes["token_endpoint"]).netloc in line["reason"]
            assert "discover app --accept" in line["repair"]
            refresh(world)
            assert other.sandbox.log == []
            assert "nothing is sent there" in world.daemon.command("status").stdout
            world.daemon.command("discover", "app", "--accept")
            world.daemon.command("refresh", "acme")
            wait_until(lambda: other.sandbox.log, description="a person has said so")
        sandbox.introducing.changes.clear()
        sandbox.introducing.changes["revocation_endpoint"] = f"{sandbox.base_url}/revoke/more"
        world.daemon.command("discover", "app", "--accept")
        assert "/revoke/more" in said(world, "metadata.changed")[-1]["reason"]
        world.daemon.command("discover", "app")
        # A move that was refused has changed nothing; what the daemon read by itself has.
        assert audited(world) == [
            ("discovered", "daemon", sandbox.base_url),
            ("discovered", "operator", "token_endpoint"),
            ("discovered", "operator", "revocation_endpoint, token_endpoint"),
            ("discovered", "operator", "nothing has changed"),
        ]


REGISTERED = 'issuer = "{base_url}"\nscope = "read"\n'


@pytest.mark.parametrize(
    "openness",
    [{}, {"public_clients": True}, {"initial_access_token": "iat-canary-0123456789"}],
    ids=["secret", "public", "with a token"],
)
def test_a_client_registers_itself(
    tmp_path: Path, canary: Canary, openness: dict[str, Any]
) -> None:
    more = REGISTERED
    if "initial_access_token" in openness:
        canary.add(openness["initial_access_token"])
        more += 'initial_access_token = {{ file = "iat.secret" }}\n'
    with discovering(
        tmp_path, canary, {"registers": True, **openness}, more, starts=False
    ) as world:
        world.secret_file("iat.secret", openness.get("initial_access_token", "none"))
        unregistered = world.daemon.command("check")
        assert "client app" in unregistered.stderr
        world.daemon.start()
        wait_until(lambda: said(world, "metadata.read"), description="the server is known")
        assert "refresher register app" in world.daemon.command("check").stderr
        login = world.daemon.command("login", "acme", "--client", "app", check=None)
        assert "refresher register app" in login.stderr
        done = world.daemon.command("register", "app")
        [_, made] = world.server.sandbox._server.applications
        assert made.redirect_uris == (REDIRECT,)
        commands = [done, world.daemon.command("status"), world.daemon.command("check")]
        said_of_it = "".join(one.stdout + one.stderr for one in commands)
        said_of_it += world.daemon.log.read_text()
        assert made.client_id not in said_of_it
        assert "refresher register app" not in world.daemon.command("check").stderr
        assert parameters(log_in(world))["client_id"] == made.client_id
        refresh(world)
        again = world.daemon.command("register", "app", check=None)
        assert again.returncode == 1
        assert "--again" in again.stderr
        world.daemon.kill()
        world.daemon.start()
        refresh(world)
        world.daemon.command("register", "app", "--again")
        assert parameters(log_in(world, "other"))["client_id"] != made.client_id
        assert len(said(world, "client.registered")) == 2
        registered = [line[:2] for line in audited(world) if line[0] == "registered"]
        assert registered == [("registered", "operator")] * 2


def test_the_end_of_a_registered_secret_is_told(tmp_path: Path, canary: Canary) -> None:
    openness = {"registers": True, "client_secret_lifetime": 86_400.0}
    with discovering(tmp_path, canary, openness, REGISTERED, starts=False) as world:
        # Without a daemon the command does the work itself.
        assert "its secret ends" in world.daemon.command("register", "app").stdout
        assert "its client secret ends" in world.daemon.command("check").stderr
        world.daemon.start()
        wait_until(lambda: said(world, "registration.end_announced"), description="the end is told")
        assert "--again" in said(world, "registration.end_announced")[0]["repair"]


@pytest.mark.parametrize(
    ("pushes", "more"),
    [("required", ""), ("offered", "require_pushed_authorization_requests = true\n")],
)
def test_a_request_is_pushed(tmp_path: Path, canary: Canary, pushes: str, more: str) -> None:
    with discovering(tmp_path, canary, {"pushes": pushes}, KNOWN + more) as world:
        url = log_in(world)
        assert parameters(url).keys() == {"client_id", "request_uri"}
        refresh(world)


def test_what_is_offered_need_not_be_used(tmp_path: Path, canary: Canary) -> None:
    with discovering(tmp_path, canary, {"pushes": "offered"}, KNOWN) as world:
        assert "state" in parameters(log_in(world))


def test_a_refresh_token_that_may_be_bound_to_a_key_is_kept(tmp_path: Path, canary: Canary) -> None:
    with discovering(tmp_path, canary, {}, KNOWN, starts=False) as world:
        sandbox = world.server.sandbox
        sandbox.introducing.changes["dpop_signing_alg_values_supported"] = ["ES256"]
        world.daemon.start()
        wait_until(lambda: said(world, "metadata.read"), description="the server is known")
        bare = Raw(status=400, body=b'{"error": "invalid_grant"}')
        world.server.call(sandbox.faults.enqueue, bare)
        minted = world.server.call(sandbox.mint)
        line = {"name": "acme", "client": "app", "refresh_token": minted.refresh_token}
        world.import_grants(line)
        wait_until(
            lambda: world.status("acme").get("reason") == "refused:dpop",
            description="the likely cause is told",
        )
        wait_until(lambda: said(world, "grant.doubted"), description="the log has it too")
        [told] = world.daemon.events("grant.doubted")
        assert "DPoP" in told["repair"]
        assert told["repair"] == world.status("acme")["repair"]
        assert "DPoP" in world.daemon.command("status", "acme").stdout
        assert world.daemon.events("grant.lost") == []
        world.daemon.command("refresh", "acme")
        wait_until(lambda: world.token("acme"), description="the same refresh token is good")


def test_a_demand_for_proofs_ends_no_grant(tmp_path: Path, canary: Canary) -> None:
    with discovering(tmp_path, canary, {"demands_proof": "refreshes"}, KNOWN) as world:
        log_in(world)
        token = world.token("acme")
        world.daemon.command("refresh", "acme")
        wait_until(
            lambda: world.status("acme").get("reason") == "proof_demanded:invalid_grant",
            description="the demand is told",
        )
        world.await_state("acme", "degraded")
        assert "DPoP" in world.status("acme")["repair"]
        assert world.token("acme") == token
        assert world.daemon.events("grant.lost") == []
        assert world.daemon.events("grant.doubted") == []
        [family] = world.server.sandbox.families
        assert family.revoked_at is None
