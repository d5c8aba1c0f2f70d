"""Four lines are enough for a provider of the catalogue, and each mistake names its mend."""

import re

import pytest

from refresher.domain.clients import Client
from refresher.providers import all_providers
from refresher.providers.lines import settings_lines
from tests.settings.conftest import Bench
from tests.support.signing import key_pair

ENTRIES = all_providers()
USABLE = [entry for entry in ENTRIES if not entry.needs]

FOUR_LINES = {
    "google": 'redirect_uris = ["http://127.0.0.1:8765/callback"]',
    "microsoft": 'tenant = "contoso.onmicrosoft.com"',
    "github": 'redirect_uris = ["http://127.0.0.1:8765/callback"]',
    "slack": 'redirect_uris = ["https://acme.example/callback"]',
    "salesforce": 'base_url = "https://acme.my.salesforce.com"',
    "xero": 'redirect_uris = ["http://127.0.0.1:8765/callback"]',
    "zoho": 'region = "eu"',
}
"""Beside provider, client_id and client_secret, what somebody with such an integration writes."""

OWN = 'token_endpoint = "https://auth.acme.example/token"'


def client(provider: str, *lines: str) -> str:
    own = ['client_id = "id"', 'client_secret = "secret"', *lines]
    return "\n".join(["[clients.acme]", f'provider = "{provider}"', *own]) + "\n"


def loaded(bench: Bench, text: str) -> Client:
    settings = bench.load(text)
    assert settings.warnings == ()
    return settings.settings.clients["acme"]


@pytest.mark.parametrize(("provider", "line"), FOUR_LINES.items())
def test_four_lines_are_enough(bench: Bench, provider: str, line: str) -> None:
    made = loaded(bench, client(provider, line))
    assert made.endpoints.token.startswith("https://")
    assert made.endpoints.authorization is not None
    assert "{" not in made.endpoints.token + made.endpoints.authorization


def test_what_is_shown_to_be_pasted_loads_without_complaint(bench: Bench) -> None:
    for entry in USABLE:
        lines = settings_lines(entry, "acme")
        text = re.sub(r'\{ file = ".*pem" \}', f"'''{key_pair()[0].strip()}'''", "\n".join(lines))
        text = re.sub(r"\{ file = .* \}", '"secret"', text).replace('"..."', '"id"')
        assert loaded(bench, text).provider == entry.name


def test_tenant_and_region_are_filled_into_endpoints_and_parameters(bench: Bench) -> None:
    cognito = loaded(bench, client("cognito", 'tenant = "acme"', 'region = "eu-central-1"'))
    host = "https://acme.auth.eu-central-1.amazoncognito.com"
    assert cognito.endpoints.token == f"{host}/oauth2/token"
    assert cognito.endpoints.authorization == f"{host}/oauth2/authorize"
    tesla = loaded(bench, client("tesla", 'region = "na"'))
    assert tesla.quirks.token_parameters == {
        "audience": "https://fleet-api.prd.na.vn.cloud.tesla.com"
    }


def test_a_default_is_taken_until_something_else_is_written(bench: Bench) -> None:
    hosted = client("gitlab", "send_redirect_uri_on_refresh = false")
    assert loaded(bench, hosted).endpoints.token == "https://gitlab.com/oauth/token"
    own = client("okta", 'base_url = "https://acme.okta.com"', 'tenant = "aus1"')
    assert loaded(bench, own).endpoints.token == "https://acme.okta.com/oauth2/aus1/v1/token"
    default = client("okta", 'base_url = "https://acme.okta.com"')
    assert loaded(bench, default).endpoints.token == "https://acme.okta.com/oauth2/default/v1/token"


def test_a_key_of_the_client_wins_over_the_catalogue(bench: Bench) -> None:
    made = loaded(
        bench,
        client(
            "zoho",
            'region = "eu"',
            'token_endpoint = "https://accounts.zoho.uk/oauth/v2/token"',
            'placement = "form"',
            'rotation = "strict"',
            'authorization_parameters = { prompt = "login" }',
        ),
    )
    assert made.endpoints.token == "https://accounts.zoho.uk/oauth/v2/token"
    assert made.quirks.placement == "form"
    assert str(made.quirks.rotation) == "strict"
    assert made.quirks.authorization_parameters == {"access_type": "offline", "prompt": "login"}


def test_no_variable_is_missed_where_every_endpoint_is_written(bench: Bench) -> None:
    written = [f'{key}_endpoint = "https://a.example/{key}"' for key in ("authorization", "token")]
    made = loaded(bench, client("microsoft", *written))
    assert made.endpoints.token == "https://a.example/token"


@pytest.mark.parametrize(
    ("lines", "scope"),
    [
        ((), ("offline_access",)),
        (('scope = "accounting.transactions"',), ("accounting.transactions", "offline_access")),
        (('scope = "offline_access openid"',), ("offline_access", "openid")),
    ],
)
def test_the_scope_that_makes_a_refresh_token_come_is_added(
    bench: Bench, lines: tuple[str, ...], scope: tuple[str, ...]
) -> None:
    assert loaded(bench, client("xero", *lines)).scope == scope


def test_it_is_added_to_the_scope_of_a_grant_too(bench: Bench) -> None:
    grants = '[grants.a]\nclient = "acme"\nscope = "accounting.reports.read"\n'
    grants += '[grants.b]\nclient = "acme"\n'
    seeds = {seed.name: seed for seed in bench.load(client("xero") + grants).settings.seeds}
    assert seeds["a"].scope == ("accounting.reports.read", "offline_access")
    assert seeds["b"].scope == ()  # the client's is asked for


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (client("xeroo"), "provider is none of the"),
        (client("xeroo"), "did you mean xero?"),
        (client("nobody at all"), "`refresher providers` lists it; without a provider set token_"),
        (
            client("microsoft"),
            "tenant is missing: set the directory: its domain, its id",
        ),
        (client("microsoft"), 'such as "contoso.onmicrosoft.com"'),
        (client("zoho"), "region is missing: set the data centre of the account"),
        (client("keycloak", 'tenant = "a"'), "base_url is missing: "),
        (client("keycloak", 'tenant = "a"'), "set its URL, the server, with its path"),
        (
            client("shopify", 'tenant = "https://acme.myshopify.com"'),
            "tenant is not the shop: what",
        ),
        (
            client("shopify", 'tenant = "acme.myshopify.com"'),
            'write it like "acme-store"; if',
        ),
        (client("zendesk", 'tenant = "acme corp"'), "leave it out and write the endpoints themsel"),
        (client("tesla", 'region = "cn"'), "region is not na for North America and Asia, eu for"),
        (
            client("gitlab", 'base_url = "http://gitlab.example"'),
            "base_url is http://: secrets would travel in the clear (RFC 6749 3.2); use https://",
        ),
        (client("gitlab", 'base_url = "gitlab.example"'), "base_url is not a URL: write https://"),
        (client("zoom", 'placement = "query"'), "placement is query, which zoom refuses: take it"),
        (client("square", 'placement = "get"'), "placement is get, which square refuses: take it"),
        (
            client("slack", 'redirect_uris = ["http://127.0.0.1:8765/callback"]'),
            "redirect_uris[0] is http://, which slack refuses for this machine as well: register",
        ),
        (client("etsy"), 'client_secret is set, and client_authentication = "none" sends none'),
        (
            client("xero").replace('client_secret = "secret"', ""),
            'client_secret is missing: set it, or client_authentication = "none" for a public',
        ),
        (client("xero").replace('client_id = "id"', ""), "client_id is missing: set the id"),
        (client("make"), "token_endpoint is missing: set it: the catalogue has none of make"),
        (client("google", 'redirect_uris = ["callback"]'), "redirect_uris[0] is not an absolute"),
        (
            client("wahoo"),
            "provider is wahoo, which does not work yet: it wants renewal_on_use (renewal only for",
        ),
        (client("wahoo"), "until then publish a token made elsewhere as the static_token of"),
    ],
)
def test_a_mistake_names_its_mend(bench: Bench, text: str, expected: str) -> None:
    (problem,) = bench.problems(text)
    assert problem.startswith("clients.acme.")
    assert expected in problem


def test_a_body_of_another_kind_is_doubted(bench: Bench) -> None:
    (warning,) = bench.load(client("square", 'placement = "form"')).warnings
    assert "clients.acme.placement is form, and square wants json: take it away" in warning


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (client("google", 'tenant = "acme"'), "tenant"),
        (client("microsoft", 'tenant = "common"', 'region = "eu"'), "region"),
        (client("google", 'base_url = "https://a.example"'), "base_url"),
        (client("x", 'tenant = "a"').replace('provider = "x"', OWN), "tenant"),
    ],
)
def test_what_has_no_effect_is_told(bench: Bench, text: str, key: str) -> None:
    (warning,) = bench.load(text).warnings
    assert f"clients.acme.{key} has no effect" in warning
    assert warning.endswith("take it away")


def test_every_provider_that_lacks_something_says_what(bench: Bench) -> None:
    for entry in ENTRIES:
        if entry.needs:
            (problem,) = bench.problems(client(entry.name))
            assert all(f"{need} (" in problem for need in entry.needs)
