"""Clients of providers of the catalogue in a real daemon: their lines, and what entries say."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from refresher.providers import all_providers, find_provider
from refresher.providers.lines import settings_lines
from refresher.sandbox import SandboxOptions
from refresher.sandbox.manners import Manners
from tests.canary import Canary
from tests.support.waiting import wait_until
from tests.system.test_quirks import LIFE, Quirk, Servers, playing
from tests.system.world import World, new_world

PROVIDER = "smart-on-fhir"
"""The entry whose paths are those of the sandbox; the host is the customer's own."""

GRANT = '\n[grants.ward]\nclient = "smart-on-fhir"\nrefresh_token = { file = "ward.secret" }\n'

SETTINGS = """
[clients.{name}]
provider = "{name}"
authorization_endpoint = "{base_url}/authorize"
token_endpoint = "{base_url}/token"
redirect_uris = ["https://app.example/callback/{name}"]
client_id = "{name}"
client_secret = {{ file = "{name}.secret" }}
{more}
"""
"""Four lines and the sandbox's address: every quirk comes from the entry."""

ACTION = {"action": "requesttoken"}


def meta(prefix: str) -> Quirk:
    """The ways of Instagram and Threads, which differ in one word."""
    return Quirk(
        settings='placement = "get"\nrefresh_endpoint = "{base_url}/refresh"\n'
        'exchange_endpoint = "{base_url}/exchange"',
        options={"parameters_in": "get", "renews_with_access_token": True},
        manners=Manners(
            parameter_names={"refresh_token": "access_token"},
            refresh_path="/refresh",
            refresh_grant_type=f"{prefix}_refresh_token",
            exchange_grant_type=f"{prefix}_exchange_token",
            authenticates_refresh=False,
        ),
    )


PLAYED = {
    "square": Quirk(
        settings="",
        options={"parameters_in": "json", "rotation": "none"},
        manners=Manners(
            expiry="iso", answer_names={"expires_in": "expires_at"}, around={"merchant_id": "M1"}
        ),
        published={"merchant_id": "M1"},
    ),
    "clover": Quirk(
        settings='refresh_endpoint = "{base_url}/refresh"',
        options={"parameters_in": "json"},
        manners=Manners(
            refresh_path="/refresh",
            expiry="epoch",
            answer_names={"expires_in": "access_token_expiration"},
            in_redirect={"merchant_id": "M2"},
        ),
        published={"merchant_id": "M2"},
    ),
    "withings": Quirk(
        settings="",
        manners=Manners(
            wants_at_code=ACTION,
            wants_at_refresh=ACTION,
            answer_path="body",
            errors_in="status",
            around={"access_token": "of-nobody"},
        ),
    ),
    "amazon-seller": Quirk(
        settings='authorization_parameters = { application_id = "amzn1.sp.solution.1" }',
        options={"rotation": "none"},
        manners=Manners(
            wants_at_login={"application_id": "amzn1.sp.solution.1"},
            code_parameter="spapi_oauth_code",
            in_redirect={"selling_partner_id": "S1"},
        ),
        published={"selling_partner_id": "S1"},
    ),
    "facebook": Quirk(
        settings='placement = "get"',
        options={"parameters_in": "get", "renews_with_access_token": True},
        manners=Manners(
            parameter_names={"refresh_token": "fb_exchange_token"},
            refresh_grant_type="fb_exchange_token",
        ),
    ),
    "instagram": meta("ig"),
    "threads": meta("th"),
    "tiktok": Quirk(
        settings="",
        manners=Manners(parameter_names={"client_id": "client_key"}, around={"open_id": "O1"}),
        published={"open_id": "O1"},
    ),
}
"""What the documents say of a provider, played by the sandbox; the entry says it in its keys."""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> Iterator[Servers]:
    with playing(tmp_path_factory.mktemp("played"), canary, PLAYED, SETTINGS) as servers:
        yield servers


@pytest.mark.parametrize("name", PLAYED)
def test_an_entry_is_enough_for_a_login_and_refreshes(played: Servers, name: str) -> None:
    begun = time.time()
    sandbox = played.servers[name].sandbox
    first, sent = played.log_in(name), 2
    if PLAYED[name].manners.exchange_grant_type is not None:
        wait_until(
            lambda: "-2-" in played.world.token(name)["access_token"],
            description="the token of the login is exchanged",
        )
        first, sent = played.world.token(name), 3
    second = played.refreshed(name, first)
    assert sandbox.families.family_of_access_token(second["access_token"]) is not None
    assert begun + LIFE - 5 <= int(second["expires_at"]) <= time.time() + LIFE + 5
    assert PLAYED[name].published.items() <= second.items()
    assert [record.error for record in sandbox.log] == [None] * sent
    assert not played.world.daemon.events("answer.doubted")


def test_what_is_played_is_what_is_claimed() -> None:
    claimed = {each.name for each in all_providers() if each.tested == "sandbox profile"}
    assert claimed == {*PLAYED, "survilla"}


def pasted(world: World) -> list[str]:
    """What ``refresher providers`` tells to paste, filled in for the sandbox."""
    entry = find_provider(PROVIDER)
    assert entry is not None
    known = world.server.sandbox.client
    world.secret_file(f"{PROVIDER}.secret", str(known.client_secret))
    own = {"base_url": world.server.sandbox.base_url, "client_id": known.client_id}
    lines = [line.partition(" = ") for line in settings_lines(entry)]
    return [
        f'{key} = "{own[key]}"' if key in own else key + sign + rest for key, sign, rest in lines
    ]


def test_the_pasted_lines_and_a_refresh_token_are_enough(tmp_path: Path, canary: Canary) -> None:
    with new_world(tmp_path, canary, SandboxOptions(access_token_lifetime=3600)) as world:
        (refresh_token,) = world.server.refresh_tokens(1)
        world.secret_file("ward.secret", refresh_token)
        world.daemon.prepare(redis_url=world.valkey.url, clients="\n".join([*pasted(world), GRANT]))
        world.daemon.command("check", check=0)
        world.daemon.start()
        wait_until(lambda: "access_token" in world.token("ward"), description="it is published")
        world.await_state("ward", "fresh")


def test_check_refuses_a_missing_tenant_and_says_what_to_set(
    tmp_path: Path, canary: Canary
) -> None:
    with new_world(tmp_path, canary, SandboxOptions()) as world:
        client = '[clients.mail]\nprovider = "microsoft"\nclient_id = "a"\nclient_secret = "b"\n'
        world.daemon.prepare(redis_url=world.valkey.url, clients=client)
        done = world.daemon.command("check", check=78)
        assert "clients.mail.tenant is missing: set the directory" in done.stderr
        assert 'such as "contoso.onmicrosoft.com"' in done.stderr
