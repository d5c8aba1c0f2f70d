"""Every class of quirk from end to end: settings, import or login, refresh, published.

Each class has an authorization server of its own that does nothing the standard's way which
the class does another way. What is published after the second refresh was brought by the
refresh token that the first one brought: nothing of an answer was misread.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from refresher.ops.control_client import ControlClient
from refresher.sandbox import SandboxOptions
from refresher.sandbox.manners import Manners
from refresher.settings.loading import load
from refresher.settings.secret_places import Needed
from tests.canary import Canary
from tests.support.sandbox import SandboxThread, sandbox_thread
from tests.support.waiting import wait_until
from tests.system.browser import LoginCommand, where_it_leads
from tests.system.world import World, new_world

LIFE = 3600

SETTINGS = """
[clients.{name}]
authorization_endpoint = "{base_url}/authorize"
token_endpoint = "{base_url}/token"
redirect_uris = ["https://app.example/callback/{name}"]
client_id = "{name}"
client_secret = {{ file = "{name}.secret" }}
client_authentication = "client_secret_post"
rotation = "strict"
{more}
"""


@dataclass(frozen=True, kw_only=True)
class Quirk:
    """One class: how its server behaves, and what a user writes about it."""

    settings: str
    manners: Manners = field(default_factory=Manners)
    options: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, str] = field(default_factory=dict)


REFRESHED = {
    "query": Quirk(settings='placement = "query"', options={"parameters_in": "query"}),
    "json": Quirk(settings='placement = "json"', options={"parameters_in": "json"}),
    "get": Quirk(settings='placement = "get"', options={"parameters_in": "get"}),
    "refresh-placement": Quirk(
        settings='placement = "form"\nrefresh_placement = "json"', options={"parameters_in": "json"}
    ),
    "renamed": Quirk(
        settings='parameter_names = { client_id = "client_key", refresh_token = "token" }',
        manners=Manners(parameter_names={"client_id": "client_key", "refresh_token": "token"}),
    ),
    "more": Quirk(
        settings='refresh_parameters = { action = "requesttoken" }\n'
        'token_headers = { Notion-Version = "2022-06-28" }\nrefresh_headers = { X-Kind = "b" }',
        manners=Manners(
            wants_at_refresh={"action": "requesttoken"},
            headers_at_refresh={"notion-version": "2022-06-28", "x-kind": "b"},
        ),
    ),
    "refresh-url": Quirk(
        settings='refresh_endpoint = "{base_url}/refresh"', manners=Manners(refresh_path="/refresh")
    ),
    "nested": Quirk(
        settings='answer_path = "body.authed_user"\n'
        'answer_names = { access_token = "token", refresh_token = "refreshToken" }',
        manners=Manners(
            answer_path="body.authed_user",
            answer_names={"access_token": "token", "refresh_token": "refreshToken"},
            around={"access_token": "of-the-bot", "refresh_token": "of-the-bots-too"},
        ),
    ),
    "milliseconds": Quirk(
        settings='expires_in_unit = "milliseconds"', manners=Manners(expiry="milliseconds")
    ),
    "text": Quirk(settings="", manners=Manners(expiry="text")),
    "epoch": Quirk(
        settings='answer_names = { expires_in = "validUntil" }',
        manners=Manners(expiry="epoch", answer_names={"expires_in": "validUntil"}),
    ),
    "epoch-ms": Quirk(settings="", manners=Manners(expiry="epoch_ms")),
    "iso": Quirk(
        settings="", manners=Manners(expiry="iso", answer_names={"expires_in": "expires_at"})
    ),
    "untold": Quirk(
        settings=f'default_expires_in = "{LIFE}s"', options={"expires_in_in_answer": False}
    ),
    "form-answers": Quirk(settings="", manners=Manners(form_answers=True)),
    "extras": Quirk(
        settings='extras = ["instance_url", "team.id"]',
        manners=Manners(around={"instance_url": "https://eu.example", "team": {"id": "T1"}}),
        published={"instance_url": "https://eu.example", "team.id": "T1"},
    ),
    "live-token": Quirk(
        settings='renews_with_access_token = true\nrefresh_grant_type = "fb_exchange_token"\n'
        'parameter_names = { refresh_token = "fb_exchange_token" }',
        manners=Manners(
            parameter_names={"refresh_token": "fb_exchange_token"},
            refresh_grant_type="fb_exchange_token",
        ),
        options={"renews_with_access_token": True},
    ),
    "live-token-alone": Quirk(
        settings='renews_with_access_token = true\nrefresh_grant_type = "ig_refresh_token"\n'
        'parameter_names = { refresh_token = "access_token" }\nauthenticate_refresh = false\n'
        'placement = "get"\nrefresh_endpoint = "{base_url}/refresh"',
        manners=Manners(
            parameter_names={"refresh_token": "access_token"},
            refresh_grant_type="ig_refresh_token",
            authenticates_refresh=False,
            refresh_path="/refresh",
        ),
        options={"renews_with_access_token": True, "parameters_in": "get"},
    ),
    "status-field": Quirk(
        settings='error_field = "status"\nsuccess_codes = ["0"]',
        manners=Manners(errors_in="status"),
    ),
}
"""What a refresh shows."""

ERRORS = {
    "dead": ('rejection_codes = ["293"]', "GrantRejected", "error_code", "293"),
    "later": ('transient_codes = ["293"]', "Transient", "error", "293"),
    "at-work": ('in_progress_codes = ["293"]', "Transient", "error", "being_processed"),
    "dead-words": (
        'rejection_descriptions = ["IT FAILED"]',
        *("GrantRejected", "error_code", "rejection_descriptions"),
    ),
    "later-words": (
        'transient_descriptions = ["it failed"]',
        *("Transient", "error", "transient_descriptions"),
    ),
    "at-work-words": (
        'in_progress_descriptions = ["it failed"]',
        *("Transient", "error", "being_processed"),
    ),
}
"""Settings, and the outcome of a refresh that is answered 200 with the code 293."""

ODD = Manners(errors_in="errcode", error_codes={"invalid_grant": "293"})

ENDLESS = Quirk(settings="no_expiry = true", options={"expires_in_in_answer": False})

LOGIN = Quirk(
    settings='authorization_parameters = { access_type = "offline" }\n'
    'code_parameters = { expiring = "1" }\ncode_headers = { X-Code = "a" }\n'
    'code_parameter = "spapi_oauth_code"\ncallback_extras = ["realmId"]\n'
    'parameter_names = { client_id = "app_id", code = "auth_code" }',
    manners=Manners(
        wants_at_login={"access_type": "offline"},
        wants_at_code={"expiring": "1"},
        headers_at_code={"x-code": "a"},
        code_parameter="spapi_oauth_code",
        in_redirect={"realmId": "4620816365"},
        parameter_names={"client_id": "app_id", "code": "auth_code"},
    ),
)


@dataclass(slots=True)
class Servers:
    """A daemon, and a server for each class."""

    world: World
    servers: dict[str, SandboxThread]

    def import_grants(self) -> None:
        """Bring a refresh token of every class that is not logged in, as an operator does."""
        self.world.import_grants(
            *(
                {"name": name, "client": name, "refresh_token": server.refresh_tokens(1)[0]}
                for name, server in self.servers.items()
                if name != "login"
            )
        )

    def log_in(self, name: str) -> dict[str, str]:
        """What is published of NAME after a login, in which the owner consents."""
        login = LoginCommand(self.world.daemon, name, "--client", name)
        login.finish(where_it_leads(login.url))
        return self.await_token(name)

    def refresh(self, name: str) -> None:
        """Ask for a refresh of NAME."""
        settings = load(self.world.daemon.config, needed=Needed.NONE).settings
        anyio.run(partial(ControlClient(settings.control.socket).call, "refresh", name=name))

    def await_token(self, name: str, *, after: str = "0") -> dict[str, str]:
        """The published token of NAME, newer than version AFTER."""
        wait_until(
            lambda: int(self.world.token(name).get("version", 0)) > int(after),
            description=f"{name} is published",
        )
        return self.world.token(name)

    def refreshed(self, name: str, before: dict[str, str]) -> dict[str, str]:
        """What is published of NAME after another refresh."""
        self.refresh(name)
        return self.await_token(name, after=before["version"])


@contextmanager
def playing(
    folder: Path, canary: Canary, known: Mapping[str, Quirk], settings: str = SETTINGS
) -> Iterator[Servers]:
    """A server for each class in KNOWN, and a daemon with a client of each.

    Args:
        settings: what each client says beside its class.
    """
    with new_world(folder, canary, SandboxOptions()) as world, ExitStack() as stack:
        started: dict[str, SandboxThread] = {}
        sections: list[str] = []
        for name, quirk in known.items():
            options = SandboxOptions(
                client_id=name,
                client_secret=canary.plant(f"{name}-secret"),
                redirect_uris=(f"https://app.example/callback/{name}",),
                access_token_lifetime=LIFE,
                manners=quirk.manners,
                **quirk.options,
            )
            server = started[name] = stack.enter_context(sandbox_thread(options))
            canary.watch(server.sandbox.secrets)
            world.secret_file(f"{name}.secret", options.client_secret)
            base_url = server.sandbox.base_url
            more = quirk.settings.replace("{base_url}", base_url)
            sections.append(settings.format(name=name, base_url=base_url, more=more))
        world.daemon.prepare(redis_url=world.valkey.url, clients="\n".join(sections))
        world.daemon.start()
        yield Servers(world, started)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> Iterator[Servers]:
    known = {**REFRESHED, "endless": ENDLESS, "login": LOGIN}
    for name, (settings, *_) in ERRORS.items():
        text = f'{settings}\nerror_field = "errcode"\nsuccess_codes = ["0"]'
        known[name] = Quirk(settings=text, manners=ODD)
    with playing(tmp_path_factory.mktemp("quirks"), canary, known) as servers:
        servers.import_grants()
        yield servers


@pytest.mark.parametrize("name", REFRESHED)
def test_a_quirk_is_refreshed_and_published(servers: Servers, name: str) -> None:
    begun = time.time()
    first = servers.await_token(name)
    second = servers.refreshed(name, first)
    sandbox = servers.servers[name].sandbox
    assert sandbox.families.family_of_access_token(second["access_token"]) is not None
    assert second["access_token"] != first["access_token"]
    assert begun + LIFE - 5 <= int(second["expires_at"]) <= time.time() + LIFE + 5
    assert REFRESHED[name].published.items() <= second.items()
    assert [record.error for record in sandbox.log] == [None, None]
    assert not servers.world.daemon.events("answer.doubted")


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_status_200_means_what_the_settings_say(servers: Servers, name: str) -> None:
    servers.await_token(name)
    server, daemon = servers.servers[name], servers.world.daemon
    [family] = server.sandbox.families
    server.call(server.sandbox.revoke_family, family.family_id)
    servers.refresh(name)
    _, outcome, field_, said = ERRORS[name]

    def failed() -> list[dict[str, Any]]:
        lines = daemon.events("exchange.failed", "exchange.rejected")
        return [line for line in lines if line["grant"] == name]

    wait_until(failed, description=f"{name} is refused")
    line = failed()[0]
    assert (line["outcome"], line["status"], line[field_]) == (outcome, 200, said)


def test_a_token_without_an_end_is_published_without_one(servers: Servers) -> None:
    first = servers.await_token("endless")
    with servers.world.valkey.client() as redis:
        assert redis.ttl("refresher:token:endless") == -1
    assert "expires_at" not in first
    assert "next_attempt_at" not in servers.world.status("endless")
    second = servers.refreshed("endless", first)
    assert second["access_token"] != first["access_token"]
    assert "expires_at" not in second
    servers.world.await_state("endless", "fresh")


def test_a_login_has_quirks_of_its_own(servers: Servers) -> None:
    first = servers.log_in("login")
    assert first["realmId"] == "4620816365"
    second = servers.refreshed("login", first)
    assert second["realmId"] == "4620816365", "a refresh says nothing of it: it stays"
