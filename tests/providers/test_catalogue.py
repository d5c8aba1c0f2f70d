"""The catalogue says what documents say, in known fields, with a source for what is verified."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

import tests.foreign
from refresher.domain.clients import Client, Revocation
from refresher.domain.outcomes import (
    ClientRejected,
    GrantRejected,
    Misconfigured,
    Outcome,
    TooEarly,
    Transient,
)
from refresher.domain.quirks import (
    ClientAuthentication,
    Placement,
    Quirks,
    RotationProfile,
    keys,
)
from refresher.domain.secret import Secret
from refresher.oauth.responses import classify
from refresher.providers import (
    NEEDS,
    Provider,
    all_providers,
    find_provider,
    provider_names,
    read_entry,
)
from tests.pages.independent import ROWS, SERVERS
from tests.providers.checks import faults
from tests.support.clients import make_client

MEANT: dict[str, tuple[type[Outcome], ...]] = {
    "dead": (GrantRejected,),
    "later": (Transient,),
    "early": (TooEarly,),
    "configuration": (ClientRejected, Misconfigured),
}

COMPLETE = 40
"""Entries that must say how refresh tokens rotate and how long both tokens live, with sources."""

MINIMAL = """
title = "Acme"
documentation = "https://acme.example/oauth"
console = "Ask Acme."

[settings]
token_endpoint = "https://acme.example/token"
"""


def provider(name: str) -> Provider:
    found = find_provider(name)
    assert found is not None
    return found


def is_complete(entry: Provider) -> bool:
    """Whether rotation, grace and both lifetimes are known and sourced.

    Where the customer's own settings decide, the choices must be, and the defaults.
    """

    def is_sourced(*keys: str) -> bool:
        return any(entry.source_of(key) for key in keys)

    return (
        is_sourced("rotation", "rotation_varies")
        and is_sourced("access_token_lifetime")
        and is_sourced("refresh_token_idle", "refresh_token_absolute")
    )


def client_of(entry: Provider) -> Client:
    """A client of ENTRY as far as reading answers goes."""
    names = {key.name for key in keys(Quirks)}
    told = {key: value for key, value in entry.defaults.items() if key in names}
    return make_client(entry.name, client_secret=Secret("secret"), **told)


@pytest.mark.parametrize("name", provider_names())
def test_an_entry_is_well_typed_and_consistent(name: str) -> None:
    assert faults(provider(name)) == []


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        ("\nrotates = true", "rotates"),
        ('\n[facts]\nrotation = "sometimes"', "rotation"),
        ('\n[facts]\naccess_token_lifetime = "an hour"', "access_token_lifetime"),
        ('\n[[sources]]\nurl = "http://acme.example"\nread = 2026-11-26\nsays = []', "sources"),
    ],
)
def test_an_entry_with_a_mistake_is_refused(mistake: str, told: str) -> None:
    assert read_entry("acme", MINIMAL).title == "Acme"
    with pytest.raises(ValidationError, match=told):
        read_entry("acme", MINIMAL + mistake)


def test_a_need_that_is_not_in_the_list_is_refused() -> None:
    with pytest.raises(ValidationError, match="telepathy is not one of secret_as_user"):
        read_entry("acme", MINIMAL.replace("console", 'needs = ["telepathy"]\nconsole'))


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        ('[facts]\ndiscovery = "https://{tenant}.acme.example"', "uses the variables ['tenant']"),
        (
            '[[sources]]\nurl = "https://a.example"\nread = 2026-11-26\nsays = ["rotation"]',
            "which the entry does not",
        ),
        (
            'no_expiry = true\n[facts]\naccess_token_lifetime = "1h"',
            "no_expiry is the access_token_lifetime: write one",
        ),
        ('refresh_endpoint = "https://a.example/r"', "refresh_endpoint has no source"),
        ('refresh_placement = "get"', "refresh_placement in a URL needs a source"),
        ('parameter_names = { client_key = "client_id" }', "has client_key, which the standard"),
        ('answer_names = { validUntil = "expires_in" }', "has validUntil, which the standard"),
        ('[facts]\nrotation = "strict"\nhas_refresh_token = false', "has no refresh token"),
        ('[facts]\nrotation = "grace(30)"', "needs a source"),
    ],
)
def test_what_contradicts_itself_is_a_fault(mistake: str, told: str) -> None:
    unsourced = "token_endpoint has no source: leave it out"
    assert faults(read_entry("acme", MINIMAL)) == [unsourced]
    found = faults(read_entry("acme", MINIMAL + mistake))
    assert len(found) == 2
    assert any(told in fault for fault in found)


def test_at_least_forty_providers_are_known_completely() -> None:
    complete = [entry.name for entry in all_providers() if is_complete(entry)]
    assert len(complete) >= COMPLETE, complete


def test_every_word_of_what_is_missing_is_used_and_explained() -> None:
    assert {need for entry in all_providers() for need in entry.needs} == set(NEEDS)


@pytest.mark.parametrize(
    "entry", [entry for entry in all_providers() if entry.facts.answers], ids=lambda each: each.name
)
def test_answers_that_were_recorded_mean_what_the_entry_says(entry: Provider) -> None:
    client = client_of(entry)
    for answer in entry.facts.answers or ():
        outcome = classify(answer.status, {}, answer.body.encode(), client, 0.0)
        assert isinstance(outcome, MEANT[answer.means]), (answer, outcome)


def test_what_was_shown_at_independent_servers_has_its_test() -> None:
    folder = Path(tests.foreign.__file__).parent
    for shown in ROWS.values():
        assert shown.keys() <= SERVERS.keys()
        for server in shown:
            file, _, name = shown[server].partition("::")
            text = (folder / file).read_text()
            assert f"def {name}(" in text
            assert "pytestmark = pytest.mark.foreign" in text


def test_no_entry_claims_an_independent_server() -> None:
    """None of those that the tests start is a provider's own."""
    assert [each.name for each in all_providers() if each.tested == "independent server"] == []


def test_one_provider_costs_the_reading_of_one_entry() -> None:
    """A start of the daemon must not read a hundred files for one client."""
    script = """
import tomllib
read = []
loads = tomllib.loads
tomllib.loads = lambda text: read.append(text) or loads(text)
from refresher.providers import find_provider, provider_names
assert len(provider_names()) > 100 and find_provider("nobody") is None and not read
assert find_provider("xero") is find_provider("xero") and len(read) == 1
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_no_name_leaves_the_folder() -> None:
    assert find_provider("../../../pyproject") is None


def test_a_quota_of_a_client_within_an_hour_is_its_pace() -> None:
    assert provider("autodesk").defaults["rate"] == pytest.approx(500 / 60)
    assert "rate" not in provider("ebay").defaults  # 50,000 a day may well come at once
    assert "rate" not in provider("zoho").defaults  # for each refresh token, not the client


def test_survilla_sends_everything_in_the_query() -> None:
    survilla = provider("survilla")
    given = survilla.defaults
    assert given["authorization_endpoint"] == "/oauth2/auth"
    assert given["token_endpoint"] == "/oauth2/token"
    assert given["placement"] is Placement.QUERY
    assert given["client_authentication"] is ClientAuthentication.POST
    assert given["scope_separator"] == ","
    assert given["default_expires_in"] == 900
    assert "rotation" not in given
    assert not given["pkce"]
    assert not given["send_redirect_uri_on_refresh"]
    assert {"read", "liveview_ptz", "events"} < set(survilla.scopes)


def test_survilla_revokes_by_access_token_alone() -> None:
    assert provider("survilla").revocation.at("https://portal.example/revoke") == Revocation(
        endpoint="https://portal.example/revoke",
        parameter="access_token",
        token="access_token",
        placement=Placement.QUERY,
        authenticated=False,
        success_field="success",
    )


def test_facts_become_settings() -> None:
    xero = provider("xero").defaults
    assert xero["rotation"].profile is RotationProfile.GRACE
    assert xero["rotation"].grace == xero["default_expires_in"] == 1800
    assert xero["refresh_token_idle"] == 60 * 86_400
    assert "refresh_token_idle" not in provider("zoho").defaults  # it has no end
    assert provider("exact-online").defaults["refresh_window"] == 30
    assert provider("intercom").defaults["no_expiry"] is True
    assert "no_expiry" not in xero
