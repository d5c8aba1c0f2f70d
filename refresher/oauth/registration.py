"""Dynamic client registration (RFC 7591): a client made by its server on our word.

Registered is what the settings say of the client: redirect URIs, scope, name, the way it
proves itself. What comes back is a secret but for the client id, and is shown nowhere.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from refresher.domain.clients import Client
from refresher.domain.completion import server_of
from refresher.domain.discovery import Metadata, Registration
from refresher.domain.outcomes import NotSent, OutcomeUnknown
from refresher.domain.quirks import ClientAuthentication
from refresher.domain.secret import Secret
from refresher.errors import RegistrationFailed
from refresher.oauth.authorization import is_loopback
from refresher.oauth.documents import Fields, read_fields
from refresher.oauth.metadata_values import why_unread
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.oauth.transport import Reply

REGISTER_DEADLINE = 30.0
"""Seconds a server may take to make a client."""

LONGEST_VALUE = 4096
"""Characters of a client id or a secret that is taken."""

WORDS: Mapping[str, str] = {
    "invalid_redirect_uri": "the server does not take the redirect_uris: many take https:// or a "
    "loopback address (http://127.0.0.1) alone",
    "invalid_client_metadata": "the server does not take what was asked for: look at scope and "
    "client_authentication",
    "invalid_software_statement": "the server wants a software statement, which refresher does not "
    "send: register it on the server's own pages and set client_id",
    "unapproved_software_statement": "the server knows refresher for no approved software: "
    "register it on the server's own pages and set client_id",
    "invalid_token": "the server does not take the initial_access_token: ask its operator for one",
    "access_denied": "the server lets nobody register without an initial_access_token: ask its "
    "operator for one and set it",
}
"""Errors of RFC 7591 3.2.2 and RFC 6750 3.1, and what to do about each."""

PREFERRED = (
    ClientAuthentication.BASIC,
    ClientAuthentication.POST,
    ClientAuthentication.NONE,
)
"""Ways to prove itself that a server can give a client, the best first."""


async def register(
    endpoint: TokenEndpoint, client: Client, metadata: Metadata | None, now: float
) -> Registration:
    """Have the server of CLIENT make it.

    Raises:
        RegistrationFailed: says why it was not, and what to do.
    """
    where = client.endpoints.registration
    server = server_of(client)
    if where is None or server is None:
        raise RegistrationFailed(
            f"no registration_endpoint is known for client {client.name}: its server offers no "
            "registration, or does not say where; register the client on the server's own pages "
            "and set client_id, or set registration_endpoint"
        )
    if not client.redirect_uris:
        raise RegistrationFailed(
            f"client {client.name} has no redirect_uris to register: set them, for example "
            '["http://127.0.0.1:8765/callback"]'
        )
    token = client.authentication.initial_access_token
    headers = {} if token is None else {"Authorization": f"Bearer {token.reveal()}"}
    method = method_for(client, metadata)
    content = _asked(client, method)
    patience = Patience(REGISTER_DEADLINE)
    reply = await endpoint.post(client, where, content, headers=headers, patience=patience)
    fields = read_fields(reply.body) if isinstance(reply, Reply) else None
    is_made = isinstance(reply, Reply) and 200 <= reply.status < 300  # noqa: PLR2004  the class of status codes
    if not is_made or fields is None:
        raise RegistrationFailed(_why(client, reply, fields))
    return _made(client, server, method, fields, now)


def method_for(client: Client, metadata: Metadata | None) -> ClientAuthentication:
    """How CLIENT is to prove itself: as the settings say, else the best that its server offers."""
    wanted, ours = client.discovery, client.quirks.client_authentication
    is_told = wanted is not None and "client_authentication" in wanted.told
    if is_told or ours not in PREFERRED:
        return ours
    if metadata is None:
        return ClientAuthentication.BASIC
    offered = metadata.client_authentications
    return next((each for each in PREFERRED if each.value in offered), ClientAuthentication.BASIC)


def _asked(client: Client, method: ClientAuthentication) -> dict[str, Any]:
    """The client metadata of RFC 7591 2."""
    content: dict[str, Any] = {
        "client_name": client.description or f"refresher: {client.name}",
        "redirect_uris": list(client.redirect_uris),
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": method.value,
        "application_type": "native" if _is_native(client.redirect_uris) else "web",
    }
    if client.scope:
        content["scope"] = " ".join(client.scope)
    if method is ClientAuthentication.PRIVATE_KEY_JWT:
        # Whoever signs nothing does without the library: it takes longer to load than we do.
        from refresher.oauth.assertion import public_key_set  # noqa: PLC0415  see above

        content["jwks"] = public_key_set(client)
        content["token_endpoint_auth_signing_alg"] = client.quirks.assertion_algorithm.value
    return content


def _is_native(uris: Iterable[str]) -> bool:
    """Whether the client is a program on somebody's machine (OpenID Connect Registration 2)."""
    return all(is_loopback(uri) or urlsplit(uri).scheme not in {"http", "https"} for uri in uris)


def _made(
    client: Client, server: str, method: ClientAuthentication, fields: Fields, now: float
) -> Registration:
    client_id = _text(fields.get("client_id"))
    secret = _text(fields.get("client_secret"))
    # The server may have decided otherwise, and then its word counts (RFC 7591 3.2.1).
    given = fields.get("token_endpoint_auth_method", method.value)
    known = next((each for each in ClientAuthentication if each.value == given), None)
    if client_id is None:
        raise RegistrationFailed(
            f"the server of client {client.name} answered its registration without a client_id: "
            "look on the server's own pages for what was made"
        )
    if known is None:
        raise RegistrationFailed(
            f"the server registered client {client.name} for a client authentication unknown here: "
            "set client_authentication to one that both know, and register again"
        )
    if known.has_secret and secret is None:
        raise RegistrationFailed(
            f"the server registered client {client.name} for {known} and gave it no client_secret: "
            'set client_authentication = "none" if it is a public client, and register again'
        )
    token = _text(fields.get("registration_access_token"))
    return Registration(
        server=server,
        client_id=client_id,
        client_authentication=known.value,
        registered_at=now,
        client_secret=None if secret is None else Secret(secret),
        client_secret_expires_at=_end(fields.get("client_secret_expires_at")),
        registration_access_token=None if token is None else Secret(token),
        registration_client_uri=_text(fields.get("registration_client_uri")),
        demands_proof=fields.get("dpop_bound_access_tokens") is True,
    )


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not value or len(value) > LONGEST_VALUE:
        return None
    return value if value.isprintable() else None


def _end(value: object) -> float | None:
    """When a client secret ends; 0 says never (RFC 7591 3.2.1)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value > 0 else None


def _why(client: Client, reply: Reply | NotSent | OutcomeUnknown, fields: Fields | None) -> str:
    what = f"client {client.name} was not registered"
    if not isinstance(reply, Reply):
        again = "" if isinstance(reply, NotSent) else "; it may have been made all the same"
        return f"{what}: its server was not reached, or did not answer ({why_unread(reply)}){again}"
    word = None if fields is None else fields.get("error")
    if isinstance(word, str) and word in WORDS:
        return f"{what} ({word}): {WORDS[word]}"
    if reply.status in {401, 403}:
        return f"{what} (http_{reply.status}): {WORDS['access_denied']}"
    if 200 <= reply.status < 300:  # noqa: PLR2004  the class of status codes
        return f"{what}: what answers at its registration_endpoint sends no JSON; check the URL"
    return (
        f"{what} ({why_unread(reply)}): check registration_endpoint, or register it on the "
        "server's own pages and set client_id"
    )
