"""What a server says of itself: RFC 8414, and OpenID Connect Discovery beside it.

A protected resource, such as an MCP server, names its authorization server first
(``protected_resource``, RFC 9728). Nothing here is believed without its ``issuer``, and no
endpoint is taken that secrets could not be sent to.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from refresher.domain.clients import Client
from refresher.domain.discovery import DEFAULT_AUTHENTICATIONS, ENDPOINTS, Discovery, Metadata
from refresher.errors import DiscoveryFailed
from refresher.oauth.documents import Fields, read_fields
from refresher.oauth.metadata_values import DEADLINE, is_passing, url_fault, why_unread, words_in
from refresher.oauth.patience import Patience
from refresher.oauth.protected_resource import NamedServer, find_server
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.oauth.transport import Reply


async def discover(endpoint: TokenEndpoint, client: Client, now: float) -> Metadata:
    """The metadata that CLIENT leaves to its server, read over the way it goes out.

    Raises:
        DiscoveryFailed: they cannot be had now, are another issuer's, or lack what is needed;
            says what to do.
    """
    wanted = client.discovery
    assert wanted is not None
    if wanted.issuer is not None:
        return await _of_issuer(endpoint, client, NamedServer(wanted.issuer), now)
    assert wanted.resource is not None
    server = await find_server(endpoint, client, wanted.resource)
    return await _of_issuer(endpoint, client, server, now)


def places(issuer: str) -> Iterator[str]:
    """Where the metadata of ISSUER are (RFC 8414 3.1 and 5, OpenID Connect Discovery 4)."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    yield parts._replace(path=f"/.well-known/oauth-authorization-server{path}").geturl()
    if path:
        yield parts._replace(path=f"/.well-known/openid-configuration{path}").geturl()
    yield parts._replace(path=f"{path}/.well-known/openid-configuration").geturl()


async def _of_issuer(
    endpoint: TokenEndpoint, client: Client, server: NamedServer, now: float
) -> Metadata:
    wanted, issuer = client.discovery, server.issuer
    assert wanted is not None
    fields, redirected = None, ""
    for url in places(issuer):
        reply = await endpoint.get(client, url, patience=Patience(DEADLINE))
        if is_passing(reply):
            raise DiscoveryFailed(
                f"the metadata of {issuer} cannot be read now ({why_unread(reply)}): try again "
                f"later, or look with `refresher check --online {client.name}`",
                passes=True,
            )
        assert isinstance(reply, Reply)
        if 300 <= reply.status < 400:  # noqa: PLR2004  redirects
            redirected = "; it redirects, which is not followed: write where it leads"
        fields = read_fields(reply.body) if reply.status == 200 else None  # noqa: PLR2004  OK
        if fields is not None:
            break
    if fields is None:
        return _without_document(client, server, now, redirected)
    named = fields.get("issuer")
    if named != issuer:
        raise DiscoveryFailed(_other_issuer(client, issuer, named, is_ours=wanted.issuer == issuer))
    return _read(client, server, fields, now)


def _without_document(client: Client, server: NamedServer, now: float, more: str) -> Metadata:
    """Metadata that promise nothing, where the settings have all that is needed."""
    wanted = client.discovery
    assert wanted is not None
    assert wanted.source is not None
    if "token_endpoint" in wanted.told:
        return Metadata(source=wanted.source, issuer=server.issuer, read_at=now, endpoints={})
    asked = " and ".join(urlsplit(url).path for url in places(server.issuer))
    raise DiscoveryFailed(
        f"{server.issuer} shows no metadata at {asked}{more}: correct the {_key(wanted)} of client "
        f"{client.name}, or set its authorization_endpoint and token_endpoint"
    )


def _other_issuer(client: Client, issuer: str, named: object, *, is_ours: bool) -> str:
    """Why metadata of another issuer count for nothing (RFC 8414 3.3)."""
    shown = ""
    if isinstance(named, str) and url_fault(named, client) is None:
        shown = f' (issuer = "{named}")'
    if is_ours:
        mend = f"write `issuer` of client {client.name} exactly as they do{shown}"
    else:
        mend = f"only the server can mend that{shown}; or set `issuer` of client {client.name}"
    return f"the metadata of {issuer} name another issuer: {mend}"


def _read(client: Client, server: NamedServer, fields: Fields, now: float) -> Metadata:
    wanted = client.discovery
    assert wanted is not None
    assert wanted.source is not None
    methods = fields.get("code_challenge_methods_supported")
    authentications = fields.get("token_endpoint_auth_methods_supported")
    return Metadata(
        source=wanted.source,
        issuer=server.issuer,
        read_at=now,
        endpoints=_endpoints(client, wanted, server, fields),
        client_authentications=words_in(authentications) or DEFAULT_AUTHENTICATIONS,
        challenge_methods=words_in(methods) if isinstance(methods, list) else None,
        promises_issuer=fields.get("authorization_response_iss_parameter_supported") is True,
        requires_push=fields.get("require_pushed_authorization_requests") is True,
        offers_proof=bool(words_in(fields.get("dpop_signing_alg_values_supported"))),
        scopes=words_in(fields.get("scopes_supported")),
        resource=server.resource,
        resource_scopes=server.scopes,
        demands_proof=server.demands_proof,
    )


def _endpoints(
    client: Client, wanted: Discovery, server: NamedServer, fields: Fields
) -> dict[str, str]:
    """The endpoints that are named.

    Raises:
        DiscoveryFailed: the token endpoint is missing, or one of them is unfit for secrets.
    """
    aliases: Mapping[str, Any] = {}
    if client.quirks.client_authentication.has_certificate:
        given = fields.get("mtls_endpoint_aliases")  # RFC 8705 5
        aliases = given if isinstance(given, dict) else {}
    found = {}
    for key in ENDPOINTS:
        url = aliases.get(key, fields.get(key))
        if url is None:
            continue
        fault = url_fault(url, client, below=server.issuer)
        if fault is not None and key in wanted.told:
            continue
        if fault is not None:
            raise DiscoveryFailed(
                f"the metadata of {server.issuer} name a {key} that {fault}: only the server can "
                f"mend that; or set {key} of client {client.name} yourself"
            )
        found[key] = url
    if "token_endpoint" not in wanted.told and "token_endpoint" not in found:
        raise DiscoveryFailed(
            f"the metadata of {server.issuer} name no token_endpoint: set it for client "
            f"{client.name}, as the provider's documentation has it"
        )
    return found


def _key(wanted: Discovery) -> str:
    return "issuer" if wanted.issuer is not None else "resource"
