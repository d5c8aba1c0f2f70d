"""Clients that leave something to their server: what is enough, and what each mistake says."""

import pytest

from refresher.domain.discovery import Discovery
from refresher.domain.quirks import ClientAuthentication
from tests.settings.conftest import Bench

ISSUER = """
[clients.acme]
issuer = "https://auth.acme.example"
redirect_uris = ["http://127.0.0.1:8765/callback"]
"""
KNOWN = ISSUER + 'client_id = "id"\n'
RESOURCE = KNOWN.replace("issuer = ", "resource = ").replace(".example", ".example/mcp")


def test_an_issuer_is_enough(bench: Bench) -> None:
    client = bench.load(KNOWN + 'client_secret = "s"\nrotation = "strict"').settings.clients["acme"]
    assert client.discovery == Discovery(
        issuer="https://auth.acme.example", told=frozenset({"client_id", "rotation"})
    )
    assert (client.endpoints.token, client.missing) == ("", "not_discovered")
    assert client.quirks.client_authentication is ClientAuthentication.BASIC


def test_the_url_of_a_resource_is_enough(bench: Bench) -> None:
    client = bench.load(RESOURCE).settings.clients["acme"]
    assert client.discovery is not None
    assert client.discovery.source == client.resource == "https://auth.acme.example/mcp"
    assert client.quirks.client_authentication is ClientAuthentication.NONE


@pytest.mark.parametrize(
    "more",
    ['issuer = "https://as.example"', 'token_endpoint = "https://as.example/token"'],
)
def test_a_resource_is_asked_only_where_nothing_else_is_known(bench: Bench, more: str) -> None:
    secret = 'client_secret = "s"\n'
    client = bench.load(f"{RESOURCE}{secret}{more}").settings.clients["acme"]
    assert client.resource == "https://auth.acme.example/mcp"
    assert client.discovery is None or client.discovery.resource is None


def test_a_client_without_an_id_is_one_to_be_registered(bench: Bench) -> None:
    client = bench.load(ISSUER + 'initial_access_token = "t"').settings.clients["acme"]
    assert client.client_id == ""
    assert client.authentication.initial_access_token is not None
    by_hand = """
[clients.acme]
token_endpoint = "https://as.example/token"
registration_endpoint = "https://as.example/register"
"""
    client = bench.load(by_hand).settings.clients["acme"]
    assert (client.missing, client.endpoints.registration) == (
        "not_registered",
        "https://as.example/register",
    )
    assert client.discovery is not None
    assert client.discovery.source is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (KNOWN.replace("https:", "http:"), "clients.acme.issuer is http://"),
        (KNOWN.replace('.example"', '.example?x"'), "issuer has a query"),
        (RESOURCE.replace("https:", "http:"), "clients.acme.resource is http://"),
        (RESOURCE.replace("https://", ""), "resource is not an absolute URI"),
        (RESOURCE.replace("/mcp", "/mcp#x"), "resource has a fragment"),
        (
            ISSUER + 'client_secret = "s"',
            "clients.acme.client_id is missing: set the id the server gave it",
        ),
        (
            KNOWN + 'client_authentication = "client_secret_basic"\n'
            'token_endpoint = "https://as.example/t"',
            "client_secret is missing",
        ),
        (
            ISSUER + 'client_authentication = "private_key_jwt"',
            "client_private_key is missing",
        ),
        (
            KNOWN + 'registration_endpoint = "http://as.example/register"',
            "registration_endpoint is http://",
        ),
        (
            KNOWN + 'pushed_authorization_request_endpoint = "as.example/par"',
            "pushed_authorization_request_endpoint is not a URL",
        ),
        (
            KNOWN + 'resource = "urn:api"\n[clients.acme.token_parameters]\nresource = "urn:x"',
            "token_parameters.resource is filled in by the daemon: use resource",
        ),
    ],
)
def test_a_mistake_names_its_mend(bench: Bench, settings: str, words: str) -> None:
    assert any(words in problem for problem in bench.problems(settings))


def test_a_parameter_called_resource_is_ones_own_where_none_is_set(bench: Bench) -> None:
    settings = KNOWN + '[clients.acme.token_parameters]\nresource = "urn:x"'
    assert bench.load(settings).settings.clients["acme"].quirks.token_parameters == {
        "resource": "urn:x"
    }


def test_a_token_for_a_registration_that_is_made_has_no_effect(bench: Bench) -> None:
    [warning] = bench.load(KNOWN + 'initial_access_token = "t"').warnings
    assert "initial_access_token has no effect" in warning


def test_two_servers_share_no_redirect_uri_though_neither_is_known(bench: Bench) -> None:
    other = KNOWN.replace("acme", "other")
    assert any("mix-up" in problem for problem in bench.problems(KNOWN + other))
    bench.load(KNOWN + KNOWN.replace("[clients.acme]", "[clients.twin]"))
