"""What a client has from its server, and what never follows metadata by itself."""

from dataclasses import replace
from typing import Any

import pytest

from refresher.domain.clients import Client
from refresher.domain.completion import completed, doubts, moved
from refresher.domain.discovery import Discovery, Known, Metadata, Registration
from refresher.domain.quirks import ClientAuthentication
from refresher.domain.secret import Secret
from tests.support.clients import make_client

NOW = 1_800_000_000.0
ISSUER = "https://as.example"
METADATA = Metadata(
    source=ISSUER,
    issuer=ISSUER,
    read_at=NOW,
    endpoints={
        "authorization_endpoint": f"{ISSUER}/authorize",
        "token_endpoint": "https://tokens.example/token",
        "revocation_endpoint": f"{ISSUER}/revoke",
        "registration_endpoint": f"{ISSUER}/register",
        "pushed_authorization_request_endpoint": f"{ISSUER}/par",
    },
    client_authentications=("client_secret_post",),
    challenge_methods=("S256",),
    promises_issuer=True,
    requires_push=True,
    scopes=("read", "offline_access"),
)
REGISTRATION = Registration(
    server=ISSUER,
    client_id="made",
    client_authentication="client_secret_post",
    registered_at=NOW,
    client_secret=Secret("made-secret"),
)


def client_of(told: str = "", *, resource: str | None = None, **more: Any) -> Client:
    wanted = Discovery(
        issuer=None if resource else ISSUER, resource=resource, told=frozenset(told.split())
    )
    parts: dict[str, Any] = {"token_endpoint": "", "issuer": wanted.issuer, **more}
    return make_client("app", discovery=wanted, resource=resource, **parts)


def test_what_the_settings_leave_open_is_the_servers_word() -> None:
    client = completed(client_of(), Known(METADATA))
    assert client.endpoints.token == "https://tokens.example/token"
    assert client.endpoints.authorization == f"{ISSUER}/authorize"
    assert client.endpoints.revocation is not None
    assert client.endpoints.revocation.endpoint == f"{ISSUER}/revoke"
    assert client.endpoints.registration == f"{ISSUER}/register"
    assert client.endpoints.pushed_authorization == f"{ISSUER}/par"
    assert client.endpoints.promises_issuer is True
    assert client.quirks.client_authentication is ClientAuthentication.POST
    assert client.quirks.require_pushed_authorization_requests
    assert client.scope == (), "alone offline_access would narrow what is given by default"
    # And once more it is the same, and follows what is told anew.
    assert completed(client, Known(METADATA)) == client
    named = {"token_endpoint": f"{ISSUER}/t", "introspection_endpoint": f"{ISSUER}/i"}
    moved_on = replace(METADATA, endpoints=named, requires_push=False)
    again = completed(client, Known(moved_on))
    assert (client.endpoints.introspection, again.endpoints.introspection) == (None, f"{ISSUER}/i")
    assert (again.endpoints.token, again.endpoints.revocation) == (f"{ISSUER}/t", None)
    assert not again.quirks.require_pushed_authorization_requests


def test_what_the_settings_tell_is_theirs() -> None:
    told = "token_endpoint client_authentication require_pushed_authorization_requests scope"
    ours = client_of(told, token_endpoint="https://mine.example/t", scope=("write",))
    client = completed(ours, Known(METADATA))
    assert client.endpoints.token == "https://mine.example/t"
    assert client.quirks == ours.quirks
    assert client.scope == ("write",)
    assert client.endpoints.authorization == f"{ISSUER}/authorize"


def test_metadata_of_another_issuer_do_not_count() -> None:
    ours = client_of()
    assert completed(ours, Known(replace(METADATA, source="https://before.example"))) == ours


def test_a_resource_names_its_server_and_its_scopes() -> None:
    told = replace(
        METADATA,
        source="https://h.example/mcp",
        resource="https://h.example",
        resource_scopes=("a", "b"),
    )
    client = completed(client_of(resource="https://h.example/mcp"), Known(told))
    assert (client.endpoints.issuer, client.resource) == (ISSUER, "https://h.example")
    assert client.scope == ("a", "b", "offline_access")


def test_a_registration_counts_at_its_server_alone() -> None:
    known = Known(METADATA, REGISTRATION)
    client = completed(client_of(client_id=""), known)
    assert (client.client_id, client.authentication.password) == ("made", Secret("made-secret"))
    assert client.quirks.client_authentication is ClientAuthentication.POST
    elsewhere = Known(METADATA, replace(REGISTRATION, server="https://before.example"))
    assert completed(client_of(client_id=""), elsewhere).client_id == ""
    told = completed(client_of("client_id", client_id="mine"), known)
    assert (told.client_id, told.authentication.password) == ("mine", None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"token_endpoint": "https://tokens.example/other"}, []),
        ({"revocation_endpoint": f"{ISSUER}:443/revoke"}, []),
        ({"introspection_endpoint": "https://tokens.example/introspect"}, []),
        (
            {"token_endpoint": "https://evil.example/token"},
            ["token_endpoint from tokens.example:443 to evil.example:443"],
        ),
        (
            {"token_endpoint": f"{ISSUER}/token"},
            ["token_endpoint from tokens.example:443 to as.example:443"],
        ),
        (
            {"token_endpoint": "https://tokens.example:8443/token"},
            ["token_endpoint from tokens.example:443 to tokens.example:8443"],
        ),
        (
            {"introspection_endpoint": "https://evil.example/i"},
            ["introspection_endpoint, which it did not have, to evil.example:443"],
        ),
    ],
)
def test_no_endpoint_moves_to_another_host(changes: dict[str, str], words: list[str]) -> None:
    after = replace(METADATA, endpoints={**METADATA.endpoints, **changes})
    assert moved(METADATA, after, frozenset()) == words
    assert moved(METADATA, after, frozenset(changes)) == []


def test_no_resource_moves_to_another_server() -> None:
    after = replace(METADATA, issuer="https://evil.example")
    assert moved(METADATA, after, frozenset()) == [
        "the authorization server from https://as.example to https://evil.example"
    ]


def told(client: Client, known: Known) -> list[str]:
    return list(doubts(completed(client, known), known, NOW))


def test_nothing_is_doubted_where_all_is_well() -> None:
    secret = Secret("s")
    assert told(client_of("client_id", client_secret=secret), Known(METADATA)) == []
    assert told(client_of(client_id=""), Known(METADATA, REGISTRATION)) == []


@pytest.mark.parametrize(
    ("known", "client", "words"),
    [
        (Known(), {}, "`refresher discover app`"),
        (Known(METADATA), {"client_id": ""}, "`refresher register app`"),
        (
            Known(replace(METADATA, endpoints={"token_endpoint": f"{ISSUER}/t"})),
            {"client_id": ""},
            "on the server's own pages and set client_id",
        ),
        (
            Known(METADATA),
            {"client_authentication": ClientAuthentication.NONE},
            'by "none", and its server lists client_secret_post: set',
        ),
        (Known(replace(METADATA, challenge_methods=("plain",))), {}, "pkce = false"),
        (Known(replace(METADATA, demands_proof=True)), {}, "DPoP"),
        (
            Known(METADATA, replace(REGISTRATION, client_secret_expires_at=NOW + 86_400)),
            {"client_id": ""},
            "its client secret ends 2027-01-16",
        ),
        (
            Known(METADATA, replace(REGISTRATION, client_secret_expires_at=NOW - 1)),
            {"client_id": ""},
            "its client secret has ended",
        ),
    ],
)
def test_every_doubt_names_its_mend(known: Known, client: dict[str, Any], words: str) -> None:
    [doubt] = told(client_of(**client), known)
    assert words in doubt
