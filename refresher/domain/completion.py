"""A client with what its server told, and what is to be said about that. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from refresher.domain.clients import Client, Endpoints, Revocation
from refresher.domain.discovery import Discovery, Known, Metadata, Registration
from refresher.domain.quirks import ClientAuthentication, Quirks
from refresher.domain.repairs import NOT_DISCOVERED, NOT_REGISTERED, not_ready, proof_demanded
from refresher.domain.secret import Secret
from refresher.domain.urls import host_of
from refresher.times import written

SECRET_ENDS_SOON = 14 * 86_400.0
"""Seconds before the end of a registered client's secret from when on it is told."""

OFFLINE = "offline_access"
"""The scope for which a server that lists it issues refresh tokens (OpenID Connect Core 11)."""

CHALLENGE_METHOD = "S256"

PLAIN_ENDPOINTS: Mapping[str, str] = {
    "authorization_endpoint": "authorization",
    "registration_endpoint": "registration",
    "introspection_endpoint": "introspection",
    "device_authorization_endpoint": "device_authorization",
    "pushed_authorization_request_endpoint": "pushed_authorization",
}
"""Keys of endpoints that are a URL and no more, and their fields of a client's endpoints."""


def completed(client: Client, known: Known) -> Client:
    """CLIENT with what is KNOWN of its server, wherever its settings leave something open."""
    wanted = client.discovery
    if wanted is None:
        return client
    metadata, registration = known.metadata, known.registration
    if metadata is not None and metadata.source == wanted.source:
        client = _with_metadata(client, wanted, metadata)
    if registration is not None and is_registered(client, registration):
        client = _with_registration(client, wanted, registration)
    return client


def server_of(client: Client) -> str | None:
    """What a registration of CLIENT is bound to."""
    return client.endpoints.issuer or client.endpoints.registration


def is_registered(client: Client, registration: Registration | None) -> bool:
    """Whether REGISTRATION is one of CLIENT at its present server, and counts."""
    if client.discovery is None or "client_id" in client.discovery.told or registration is None:
        return False
    return registration.server == server_of(client)


def moved(before: Metadata, after: Metadata, told: frozenset[str]) -> list[str]:
    """What AFTER wants to have sent to another host than BEFORE did, in words.

    Whoever takes over the metadata of a server would have its refresh tokens sent to him: an
    endpoint stays on its host, and a new one is on a host that was named before, until a
    person says otherwise.
    """
    found = []
    if before.issuer != after.issuer:
        found.append(f"the authorization server from {before.issuer} to {after.issuer}")
    hosts = {host_of(url) for url in (before.issuer, *before.endpoints.values())}
    for key, url in after.endpoints.items():
        if key in told:
            continue
        was = before.endpoints.get(key)
        if was is None and host_of(url) not in hosts:
            found.append(f"{key}, which it did not have, to {host_of(url)}")
        elif was is not None and host_of(was) != host_of(url):
            found.append(f"{key} from {host_of(was)} to {host_of(url)}")
    return found


def changes(before: Metadata, after: Metadata) -> list[str]:
    """The keys of endpoints that differ."""
    keys = sorted(before.endpoints.keys() | after.endpoints.keys())
    return [key for key in keys if before.endpoints.get(key) != after.endpoints.get(key)]


def doubts(client: Client, known: Known, now: float) -> Iterator[str]:
    """What a person should do about CLIENT, which is completed with what is KNOWN."""
    wanted = client.discovery
    if wanted is None:
        return
    metadata, registration = known.metadata, known.registration
    if not client.endpoints.token:
        yield not_ready(NOT_DISCOVERED, client.name)
    elif not client.client_id:
        yield needs_registering(client)
    if metadata is not None:
        yield from _offers(client, metadata)
    if (metadata is not None and metadata.demands_proof) or (
        registration is not None and registration.demands_proof
    ):
        yield proof_demanded(client.name)
    if registration is not None and is_registered(client, registration):
        yield from _endings(client, registration, now)


def needs_registering(client: Client) -> str:
    """What helps CLIENT, which has no client id."""
    if client.endpoints.registration is not None:
        return not_ready(NOT_REGISTERED, client.name)
    return (
        f"client {client.name} has no client_id, and its server names no registration_endpoint: "
        "register it on the server's own pages and set client_id"
    )


def _with_metadata(client: Client, wanted: Discovery, metadata: Metadata) -> Client:
    ours, told = client.endpoints, wanted.told

    def pick(key: str, kept: str | None) -> str | None:
        return kept if key in told else metadata.endpoints.get(key)

    plain: dict[str, Any] = {
        name: pick(key, getattr(ours, name)) for key, name in PLAIN_ENDPOINTS.items()
    }
    revocation = ours.revocation
    if "revocation_endpoint" not in told:
        url = metadata.endpoints.get("revocation_endpoint")
        revocation = None if url is None else Revocation(endpoint=url)
    endpoints: Endpoints = replace(
        ours,
        token=pick("token_endpoint", ours.token) or "",
        revocation=revocation,
        **plain,
        issuer=metadata.issuer,
        promises_issuer=metadata.promises_issuer,
        offers_proof=metadata.offers_proof or metadata.demands_proof,
    )
    scope = client.scope
    if "scope" not in told:
        more = (OFFLINE,) if metadata.resource_scopes and OFFLINE in metadata.scopes else ()
        scope = tuple(dict.fromkeys((*metadata.resource_scopes, *more)))
    return replace(
        client,
        endpoints=endpoints,
        quirks=_quirks(client.quirks, wanted, metadata),
        resource=metadata.resource or client.resource,
        scope=scope,
    )


def _quirks(quirks: Quirks, wanted: Discovery, metadata: Metadata) -> Quirks:
    """QUIRKS as far as the settings tell them, the others as METADATA do."""
    method, offered = quirks.client_authentication, metadata.client_authentications
    # Of the two ways to send a secret the server's own; anything else follows from what there is.
    if "client_authentication" not in wanted.told and method.has_secret:
        is_basic = ClientAuthentication.BASIC in offered
        is_post = ClientAuthentication.POST in offered and not is_basic
        method = ClientAuthentication.POST if is_post else ClientAuthentication.BASIC
    is_pushed = quirks.require_pushed_authorization_requests
    if "require_pushed_authorization_requests" not in wanted.told:
        is_pushed = metadata.requires_push
    return replace(
        quirks, client_authentication=method, require_pushed_authorization_requests=is_pushed
    )


def _with_registration(client: Client, wanted: Discovery, registration: Registration) -> Client:
    quirks, authentication = client.quirks, client.authentication
    if "client_authentication" not in wanted.told:
        method = ClientAuthentication(registration.client_authentication)
        quirks = replace(quirks, client_authentication=method)
    if registration.client_secret is not None:
        secret: Secret = registration.client_secret
        authentication = replace(authentication, secret=secret)
    offers_proof = client.endpoints.offers_proof or registration.demands_proof
    return replace(
        client,
        client_id=registration.client_id,
        endpoints=replace(client.endpoints, offers_proof=offers_proof),
        quirks=quirks,
        authentication=authentication,
    )


def _offers(client: Client, metadata: Metadata) -> Iterator[str]:
    """What the server does not offer of what CLIENT does."""
    method = client.quirks.client_authentication
    offered = metadata.client_authentications
    if client.client_id and method.value not in offered:
        known = [each for each in ClientAuthentication if each.value in offered]
        yield (
            f'it proves itself by "{method}", and its server lists {", ".join(known) or "none"}: '
            "set what one of them needs (client_secret, client_private_key, client_certificate), "
            "or client_authentication if the list is wrong"
        )
    methods = metadata.challenge_methods
    if client.quirks.pkce and methods is not None and CHALLENGE_METHOD not in methods:
        yield (
            f"its server lists no {CHALLENGE_METHOD} among its code_challenge_methods: if logins "
            "fail, set pkce = false; else leave it"
        )


def _endings(client: Client, registration: Registration, now: float) -> Iterator[str]:
    end = registration.client_secret_expires_at
    if end is None or end - now > SECRET_ENDS_SOON:
        return
    verb = "has ended" if end <= now else "ends"
    yield (
        f"its client secret {verb} {written(end)}: `refresher register {client.name} --again` gets "
        "another client, and its grants then need a login"
    )
