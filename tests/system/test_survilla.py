"""The seed's provider from end to end: a Survilla portal, its accounts, its static tokens."""

import json
import signal
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from refresher.demo.private_server import free_port
from refresher.domain.secret import Secret
from refresher.oauth.revocation import RevocationResult, revoke
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.sandbox import SandboxOptions
from refresher.settings.loading import load
from tests.canary import Canary
from tests.support.sandbox import SandboxThread, sandbox_thread
from tests.support.waiting import PATIENCE, wait_until
from tests.system.browser import LoginCommand, parameters, visit, where_it_leads, with_parameters
from tests.system.world import World, new_world

ELSEWHERE = "https://integration.example/callback"
HABITS = f"{ELSEWHERE}/habits"

SETTINGS = """
[clients.{name}]
provider = "survilla"
base_url = "{base_url}"
description = "copies recordings"
client_id = "{client_id}"
client_secret = {{ file = "{name}.secret" }}
redirect_uris = {redirect_uris}
scope = ["read", "liveview", "recordings"]
{more}
"""

GRANTS = """
[grants.full]
client = "portal"
labels = { access = "full", site = "north" }
[grants.partial]
client = "portal"
labels = { access = "partial", site = "north" }
[grants.revoked]
client = "portal"
[grants.static]
static_token = { file = "static.secret" }
labels = { access = "full" }
"""


@dataclass(slots=True)
class Portals:
    """A daemon, a portal as documented (``world.server``), and one with other habits."""

    world: World
    other: SandboxThread

    def register(
        self, name: str, server: SandboxThread, *redirect_uris: str, asked: str = "", more: str = ""
    ) -> str:
        """Register an application as an owner does; gives the settings of its client."""
        application = server.call(
            server.sandbox.register,
            name="NVR sync",
            description="copies recordings",
            redirect_uris=redirect_uris,
        )
        assert application.client_secret is not None
        self.world.secret_file(f"{name}.secret", application.client_secret)
        return SETTINGS.format(
            name=name,
            base_url=server.sandbox.base_url,
            client_id=application.client_id,
            redirect_uris=json.dumps([asked] if asked else redirect_uris),
            more=more,
        )

    def reload(self) -> None:
        """SIGHUP, and the settings are in force."""
        daemon = self.world.daemon
        before = len(daemon.events("settings.reloaded"))
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(
            lambda: len(daemon.events("settings.reloaded")) > before,
            description="the settings are reloaded",
        )

    def await_token(self, name: str, *, after: str = "0") -> dict[str, str]:
        """The published token of NAME, newer than version AFTER."""
        wait_until(
            lambda: int(self.world.token(name).get("version", 0)) > int(after),
            description=f"{name} is published",
        )
        return self.world.token(name)

    def cameras(self, access_token: str) -> list[str]:
        """What the portal's GraphQL endpoint shows to the bearer of ACCESS_TOKEN."""
        request = urllib.request.Request(  # noqa: S310  loopback
            f"{self.world.server.sandbox.base_url}/api/graphql.php",
            data=b'{"query":"{cameraList{name}}"}',
            headers={"Authorization": f"Bearer {access_token}"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310  loopback
            listed = json.loads(response.read())["data"]["cameraList"]
        return [camera["name"] for camera in listed]


@pytest.fixture(scope="module")
def portals(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> Iterator[Portals]:
    folder = tmp_path_factory.mktemp("survilla")
    documented = SandboxOptions.survilla(access_token_lifetime=3600)
    habits = SandboxOptions.survilla(
        parameters_in="form",
        redirect_parameter="redirect_url",
        refresh_token_at_authorization=False,
        expires_in_in_answer=False,
    )
    with sandbox_thread(habits) as other, new_world(folder, canary, documented) as world:
        canary.watch(other.sandbox.secrets)
        portals = Portals(world, other)
        world.secret_file("static.secret", make_static_token(world))
        loopback = f"http://127.0.0.1:{free_port()}/callback"
        form = 'placement = "form"\nredirect_uri_parameter = "redirect_url"'
        at_refresh = "send_redirect_uri_on_refresh = true"
        clients = [
            portals.register("portal", world.server, loopback, ELSEWHERE),
            portals.register("habits", other, HABITS, f"{loopback}/habits", more=form),
            portals.register("right", world.server, ELSEWHERE, more=at_refresh),
            portals.register("wrong", world.server, ELSEWHERE, asked=loopback, more=at_refresh),
        ]
        world.daemon.prepare(redis_url=world.valkey.url, clients="\n".join([*clients, GRANTS]))
        world.daemon.start()
        yield portals


def make_static_token(world: World) -> str:
    """A token made by hand on the portal's page."""
    return world.server.call(world.server.sandbox.make_api_token, "owner", ["read"])


def test_two_accounts_see_their_cameras(portals: Portals) -> None:
    world = portals.world
    for name, account in (("full", "owner"), ("partial", "guest")):
        login = LoginCommand(world.daemon, name)
        asked = parameters(login.url)
        assert login.url.startswith(f"{world.server.sandbox.base_url}/oauth2/auth?")
        assert asked["scope"] == "read,liveview,recordings"
        assert "code_challenge" not in asked
        visit(with_parameters(login.url, login_hint=account))
        login.finish()

    full, partial = portals.await_token("full"), portals.await_token("partial")
    assert (full["label.access"], full["label.site"]) == ("full", "north")
    assert (partial["label.access"], partial["label.site"]) == ("partial", "north")
    assert full["scope"] == "read liveview recordings"
    assert partial["scope"] == "read liveview"
    assert portals.cameras(full["access_token"]) == ["Entrance", "Yard", "Warehouse"]
    assert portals.cameras(partial["access_token"]) == ["Yard"]

    world.daemon.command("refresh", "partial")
    again = portals.await_token("partial", after=partial["version"])
    assert again["access_token"] != partial["access_token"]
    assert again["label.access"] == "partial"
    assert again["scope"] == "read liveview"
    assert portals.cameras(again["access_token"]) == ["Yard"]


def test_a_portal_may_have_other_habits(portals: Portals) -> None:
    world = portals.world
    login = LoginCommand(world.daemon, "habits", "--client", "habits")
    assert parameters(login.url)["redirect_url"] == HABITS
    assert "redirect_uri" not in parameters(login.url)
    said = login.finish(where_it_leads(login.url) + "\n")
    token = portals.await_token("habits")
    assert "the server sent no refresh token" in said
    assert "refresher login habits" in world.status("habits")["repair"]
    # The answer tells no lifetime: the catalogue's quarter of an hour holds.
    assert int(token["expires_at"]) - int(token["issued_at"]) in {900, 901}


def test_the_redirect_uri_is_sent_at_refresh(portals: Portals) -> None:
    world = portals.world
    lines = []
    for name in ("right", "wrong"):
        client = load(world.daemon.config).settings.clients[name]
        minted = world.server.call(world.server.sandbox.mint, client_id=client.client_id)
        lines.append({"name": name, "client": name, "refresh_token": minted.refresh_token})
    world.import_grants(*lines)
    assert portals.await_token("right")
    wait_until(
        lambda: world.status("wrong").get("state") == "reauthorization_required",
        description="the portal refuses a redirect URI that it does not know",
    )
    assert world.status("wrong")["reason"] == "revoked:invalid_grant"


def test_a_static_token_is_published_and_replaced(portals: Portals) -> None:
    world = portals.world
    first = portals.await_token("static")
    assert portals.cameras(first["access_token"]) == ["Entrance", "Yard", "Warehouse"]
    assert first["label.access"] == "full"
    assert "expires_at" not in first
    with world.valkey.client() as redis:
        assert redis.ttl("refresher:token:static") == -1

    typed = make_static_token(world)
    said = world.daemon.command("set-token", "static", text=typed + "\n").stdout
    second = portals.await_token("static", after=first["version"])
    assert second["access_token"] == typed
    assert said == f"static: version {second['version']} is published\n"

    portals.reload()
    assert world.token("static") == second

    world.secret_file("static.secret", configured := make_static_token(world))
    portals.reload()
    third = portals.await_token("static", after=second["version"])
    assert third["access_token"] == configured
    assert third["label.access"] == "full"


def test_set_token_refuses_what_is_no_token(portals: Portals) -> None:
    daemon = portals.world.daemon
    blanks = daemon.command("set-token", "static", text="two words\n", check=2)
    assert "it has blanks" in blanks.stderr
    refreshed = daemon.command("set-token", "full", text=portals.world.canary.plant("t"), check=1)
    assert "use `refresher login full`" in refreshed.stderr


async def test_a_login_ends_the_doubt_of_a_revoked_authorization(portals: Portals) -> None:
    world = portals.world
    login = LoginCommand(world.daemon, "revoked", "--no-browser")
    login.finish(where_it_leads(login.url) + "\n")
    token = portals.await_token("revoked")
    client = load(world.daemon.config).settings.clients["portal"]
    access_token = Secret(token["access_token"])
    async with TokenEndpoint() as endpoint:
        results = [
            await revoke(
                endpoint, client, refresh_token=None, access_token=access_token, deadline=5
            )
            for _ in range(2)
        ]
    assert results == [RevocationResult.REVOKED, RevocationResult.REFUSED]

    world.daemon.command("refresh", "revoked")
    wait_until(
        lambda: world.status("revoked").get("reason") == "refused:invalid_grant",
        description="the portal has refused the refresh token",
    )
    shown = world.daemon.command("status", "revoked")
    assert "refused:invalid_grant, for " in shown.stdout
    assert "    refresher login revoked\n" in shown.stdout
    [told] = [one for one in world.daemon.events("grant.doubted") if one["grant"] == "revoked"]
    assert told["repair"].startswith("refresher login revoked; or wait until")
    assert world.token("revoked") == token, "it stays until its end"

    again = LoginCommand(world.daemon, "revoked", "--no-browser")
    again.finish(where_it_leads(again.url) + "\n")
    assert portals.await_token("revoked", after=token["version"])
    world.await_state("revoked", "fresh")

    said = world.daemon.command("revoke", "revoked", "--yes", "--json").stdout
    assert json.loads(said)["reason"] == "revoked_here"
    wait_until(
        lambda: world.token("revoked") == {},
        description="the revoked token has left Redis",
    )
    assert world.status("revoked")["repair"] == "refresher login revoked"
