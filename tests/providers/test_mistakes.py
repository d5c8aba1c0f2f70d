"""Every mistake in the configuration of a provider, and the mend that its message names.

First what the settings tell by themselves, then what only the server's answers tell: at the
authorization endpoint, at the token endpoint when a code is redeemed, and when tokens came
that cannot be refreshed.
"""

import pytest

from refresher.domain.failed_logins import explained
from refresher.domain.reasons import Reason
from refresher.domain.repairs import repair
from refresher.domain.secret import Secret
from refresher.errors import AuthorizationFailed
from refresher.oauth import authorization
from refresher.oauth.responses import classify
from tests.domain.world import make_grant
from tests.settings.conftest import Bench, bench
from tests.support.clients import make_client

__all__ = ["bench"]

OWN = (
    'token_endpoint = "https://auth.acme.example/token"',
    'client_id = "id"',
    'client_secret = "secret"',
)


def of(provider: str, *lines: str) -> tuple[str, ...]:
    return (f'provider = "{provider}"', *OWN[1:], *lines)


IN_THE_SETTINGS: dict[str, tuple[tuple[str, ...], str]] = {
    "the tenant is missing": (
        of("keycloak", 'base_url = "https://sso.acme.example"'),
        'clients.acme.tenant is missing: set the realm, such as "acme"',
    ),
    "the region is missing": (
        of("cognito", 'tenant = "acme"'),
        "clients.acme.region is missing: set",
    ),
    "the region is none of the provider's": (
        of("zoho", 'region = "moon base"'),
        "clients.acme.region is not the data centre",
    ),
    "the customer's host is missing": (
        of("okta"),
        "clients.acme.base_url is missing: authorization_endpoint, token_endpoint",
    ),
    "a place in an endpoint is not filled in": (
        ('token_endpoint = "https://{tenant}.acme.example/token"', *OWN[1:]),
        "clients.acme.token_endpoint has {tenant} in it: write your own value in its place",
    ),
    "a place in angle brackets is not filled in": (
        ('token_endpoint = "https://<your-domain>.acme.example/token"', *OWN[1:]),
        "clients.acme.token_endpoint has <your-domain> in it: write your own value",
    ),
    "the client_id is not filled in": (
        (OWN[0], 'client_id = "..."', OWN[2]),
        'clients.acme.client_id is still "...": set the id the server gave it',
    ),
    "the client_id is missing": (
        (OWN[0], OWN[2]),
        "clients.acme.client_id is missing: set the id the server gave it",
    ),
    "the provider is unknown": (
        of("exero"),
        "is none of the",
    ),
    "the parameters go into the URL where the provider refuses that": (
        of("notion", 'placement = "query"'),
        "clients.acme.placement is query, which notion refuses: take it away",
    ),
    "a public client has a secret": (
        (*OWN, 'client_authentication = "none"'),
        (
            'clients.acme.client_secret is set, and client_authentication = "none" sends none: '
            "take one of the two away"
        ),
    ),
    "a client with a secret has none": (
        OWN[:2],
        (
            'clients.acme.client_secret is missing: set it, or client_authentication = "none" for '
            "a public client"
        ),
    ),
    "a client that signs has no key": (
        (*OWN[:2], 'client_authentication = "private_key_jwt"'),
        "clients.acme.client_private_key is missing: set the private key",
    ),
    "a client with a certificate has none": (
        (*OWN[:2], 'client_authentication = "tls_client_auth"'),
        "clients.acme.client_certificate is missing: set the file",
    ),
    "the redirect URI is http where the provider wants https": (
        of("slack", 'redirect_uris = ["http://127.0.0.1:8765/callback"]'),
        (
            "clients.acme.redirect_uris[0] is http://, which slack refuses for this machine as "
            "well: register one with https://"
        ),
    ),
    "the redirect URI is no URI": (
        (*OWN, 'redirect_uris = ["127.0.0.1:8765/callback"]'),
        "clients.acme.redirect_uris[0] is not an absolute URI: write it as registered",
    ),
    "an endpoint is http": (
        ('token_endpoint = "http://auth.acme.example/token"', *OWN[1:]),
        "is http://: secrets would travel in the clear (RFC 6749 3.2); use https://",
    ),
    "secrets stand in an endpoint": (
        ('token_endpoint = "https://id:secret@auth.acme.example/token"', *OWN[1:]),
        "has a user or password in the URL: use client_id and client_secret",
    ),
}


@pytest.mark.parametrize("mistake", IN_THE_SETTINGS)
def test_the_settings_tell_it_and_name_the_mend(bench: Bench, mistake: str) -> None:
    lines, told = IN_THE_SETTINGS[mistake]
    text = "\n".join(["[clients.acme]", *lines]) + "\n"
    if mistake == "the client_id is not filled in":  # `init` writes it, so it is no problem yet
        said = list(bench.load(text).warnings)
    else:
        said = bench.problems(text)
    assert any(told in line for line in said), said


@pytest.mark.parametrize("provider", ["xero", "google", "microsoft", "keycloak"])
def test_what_makes_a_refresh_token_come_is_asked_for_without_a_word(
    bench: Bench, provider: str
) -> None:
    own = {
        "microsoft": ['tenant = "common"'],
        "keycloak": ['tenant = "acme"', 'base_url = "https://sso.acme.example"'],
    }.get(provider, [])
    text = "\n".join(["[clients.acme]", *of(provider, *own)]) + "\n"
    client = bench.load(text).settings.clients["acme"]
    asked = authorization.begin(client, redirect_uri="https://a.example/", scope=client.scope)
    assert "offline_access" in asked.url or "access_type=offline" in asked.url


AT_THE_AUTHORIZATION_ENDPOINT = {
    "redirect_uri_mismatch": "register it at the server, exactly as redirect_uris has it",
    "unauthorized_client": "check client_id, and at the server that the client may use",
    "invalid_scope": "check `scope`",
    "invalid_request": "check scope, pkce, authorization_parameters and redirect_uri_parameter",
    "unsupported_response_type": "does not offer the authorization code grant",
}


@pytest.mark.parametrize("error", AT_THE_AUTHORIZATION_ENDPOINT)
def test_the_redirect_tells_it_and_names_the_mend(error: str) -> None:
    client = make_client("acme", authorization_endpoint="https://a.example/authorize")
    request = authorization.begin(client, redirect_uri="https://b.example/", scope=())
    with pytest.raises(AuthorizationFailed, match=r".") as raised:
        authorization.read_callback(
            request.awaited, f"?state={request.awaited.state.reveal()}&error={error}"
        )
    assert AT_THE_AUTHORIZATION_ENDPOINT[error] in str(raised.value)


AT_THE_TOKEN_ENDPOINT: dict[str, tuple[int, str, str]] = {
    "the client_id is wrong": (
        401,
        '{"error":"invalid_client","error_description":"unknown client"}',
        "check client_id and client_secret",
    ),
    "the secret is wrong": (401, '{"error":"invalid_client"}', "check client_id and client_secret"),
    "the secret is wrong, as GitHub says it": (
        200,
        '{"error":"incorrect_client_credentials"}',
        "check client_id and client_secret",
    ),
    "the secret is wrong, without a word": (401, "", "check client_id and client_secret"),
    "the method of authentication is wrong": (
        400,
        '{"error":"invalid_request","error_description":"client_id is missing"}',
        "client_authentication, encode_basic and placement",
    ),
    "the method of authentication is not registered": (
        400,
        '{"error":"unauthorized_client"}',
        "then client_authentication",
    ),
    "the parameters are looked for elsewhere": (
        400,
        '{"error":"invalid_request","error_description":"grant_type is missing"}',
        "placement",
    ),
    "the redirect URI is another one": (
        400,
        '{"error":"redirect_uri_mismatch"}',
        "register the redirect_uris of client acme at the server, exactly as they are written",
    ),
    "the redirect URI is another one, as the standard says it": (
        400,
        '{"error":"invalid_grant"}',
        "or the redirect URI differs from the registered one",
    ),
    "the scope is unknown": (400, '{"error":"invalid_scope"}', "correct the scope of client acme"),
    "there is no token endpoint": (
        404,
        "<html>Not Found</html>",
        "something else answers at the token_endpoint of client acme: compare it",
    ),
    "the port speaks TLS": (
        400,
        "<html>The plain HTTP request was sent to HTTPS port</html>",
        "its token_endpoint says http and the port speaks TLS: write https",
    ),
}


@pytest.mark.parametrize("mistake", AT_THE_TOKEN_ENDPOINT)
def test_the_answer_to_a_code_tells_it_and_the_message_names_the_mend(mistake: str) -> None:
    status, body, told = AT_THE_TOKEN_ENDPOINT[mistake]
    client = make_client("acme", client_secret=Secret("secret"))
    said = explained(classify(status, {}, body.encode(), client, 0.0), client)
    assert told in said


def test_tokens_without_a_refresh_token_name_what_makes_one_come() -> None:
    grant = make_grant(reason=Reason.NO_REFRESH_TOKEN)
    told = repair(grant)
    assert told is not None
    assert "offline_access" in told
    assert 'access_type = "offline"' in told
