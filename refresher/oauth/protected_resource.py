"""From the URL of a protected resource, such as an MCP server, to its authorization server.

RFC 9728, in the order of the MCP specification: what a refusal of the resource names, then
the well-known place with the resource's path, then the one of its host.
"""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from refresher.domain.clients import Client
from refresher.errors import DiscoveryFailed
from refresher.oauth.documents import Fields, read_fields
from refresher.oauth.metadata_values import (
    DEADLINE,
    is_passing,
    url_fault,
    why_unread,
    words_in,
)
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.oauth.transport import Reply

WELL_KNOWN = "/.well-known/oauth-protected-resource"

UNAUTHORIZED = 401

_PARAMETER = r'(?:^|[\s,]){name}\s*=\s*(?:"([^"\\]*)"|([^\s,"]+))'
"""A parameter of a challenge (RFC 9110 11.2): quoted, or a token."""


@dataclass(frozen=True, slots=True)
class NamedServer:
    """An authorization server, and what the resource that named it wants."""

    issuer: str
    resource: str | None = None
    scopes: tuple[str, ...] = ()
    demands_proof: bool = False


async def find_server(endpoint: TokenEndpoint, client: Client, resource: str) -> NamedServer:
    """The authorization server of RESOURCE, a URL of the settings of CLIENT.

    Raises:
        DiscoveryFailed: nobody can tell now, or the resource names none that can be used.
    """
    challenge = _Challenge()
    async for url in _places(endpoint, client, resource, challenge):
        reply = await endpoint.get(client, url, patience=Patience(DEADLINE))
        if is_passing(reply):
            raise DiscoveryFailed(
                f"the metadata of {resource} cannot be read now ({why_unread(reply)}): try again "
                "later",
                passes=True,
            )
        assert isinstance(reply, Reply)
        fields = read_fields(reply.body) if reply.status == 200 else None  # noqa: PLR2004  OK
        if fields is not None:
            return _read(client, resource, fields, challenge)
    raise DiscoveryFailed(
        f"{resource} names no authorization server (RFC 9728: no resource_metadata in a 401, and "
        f"nothing at {WELL_KNOWN}): set `issuer` of client {client.name}"
    )


@dataclass(slots=True)
class _Challenge:
    """What the resource itself asked for when it was asked without a token."""

    scopes: tuple[str, ...] = ()


async def _places(
    endpoint: TokenEndpoint, client: Client, resource: str, challenge: _Challenge
) -> AsyncIterator[str]:
    """Where the metadata of RESOURCE may be, the most telling first."""
    reply = await endpoint.get(client, resource, patience=Patience(DEADLINE))
    if isinstance(reply, Reply) and reply.status == UNAUTHORIZED:
        told = _challenges(reply.headers)
        challenge.scopes = words_in((_parameter(told, "scope") or "").split())
        named = _parameter(told, "resource_metadata")
        if named is not None:
            fault = url_fault(named, client, below=resource)
            if fault is not None:
                raise DiscoveryFailed(
                    f"{resource} names metadata at a URL that {fault}: only it can mend that; or "
                    f"set `issuer` of client {client.name}"
                )
            yield named
    parts = urlsplit(resource)._replace(query="", fragment="")
    path = parts.path.rstrip("/")
    if path:
        yield parts._replace(path=f"{WELL_KNOWN}{path}").geturl()
    yield parts._replace(path=WELL_KNOWN).geturl()


def _read(client: Client, resource: str, fields: Fields, challenge: _Challenge) -> NamedServer:
    named = fields.get("resource")
    if not isinstance(named, str) or not named.isascii() or not is_part_of(resource, named):
        raise DiscoveryFailed(
            f"the metadata found for {resource} are those of another resource: set `resource` of "
            f"client {client.name} to the URL that they name, if that is meant; else its `issuer`"
        )
    servers = fields.get("authorization_servers")
    listed = words_in(servers)
    if not listed:
        raise DiscoveryFailed(
            f"the metadata of {resource} list no authorization_servers: set `issuer` of client "
            f"{client.name}"
        )
    fault = url_fault(listed[0], client, below=resource)
    if fault is not None:
        raise DiscoveryFailed(
            f"the metadata of {resource} name an authorization server that {fault}: only the "
            f"resource can mend that; or set `issuer` of client {client.name}"
        )
    return NamedServer(
        issuer=listed[0],
        resource=named,
        scopes=challenge.scopes or words_in(fields.get("scopes_supported")),
        demands_proof=fields.get("dpop_bound_access_tokens_required") is True,
    )


def is_part_of(resource: str, named: str) -> bool:
    """Whether the metadata of the resource NAMED count for RESOURCE (RFC 9728 3.3).

    They are its own, or those of a path above it on the same host, which is what a document of
    the whole host is: no resource can speak for another host (RFC 9728 7.3).
    """
    ours, theirs = urlsplit(resource), urlsplit(named)
    if (ours.scheme, ours.netloc.lower()) != (theirs.scheme, theirs.netloc.lower()):
        return False
    if theirs.query or theirs.fragment:
        return resource == named
    above = theirs.path.rstrip("/")
    return ours.path.rstrip("/") == above or ours.path.startswith(f"{above}/")


def _challenges(headers: Mapping[str, str]) -> str:
    """Every challenge, as one text: a server may send several headers."""
    several = getattr(headers, "getall", None)
    found = several("WWW-Authenticate", []) if several else [headers.get("WWW-Authenticate", "")]
    return ", ".join(found)


def _parameter(challenges: str, name: str) -> str | None:
    found = re.search(_PARAMETER.format(name=name), challenges, re.IGNORECASE)
    return None if found is None else (found[1] if found[1] is not None else found[2])
