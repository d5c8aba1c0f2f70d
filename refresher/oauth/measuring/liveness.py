"""Whether an access token still lives: by introspection, by userinfo, or by a resource.

What is asked first must say of a fresh token that it lives, or it is asked no more: some
servers show introspection to resource servers alone, and userinfo wants its own scope.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import anyio

from refresher.clock import Clock, SystemClock
from refresher.domain.clients import Client
from refresher.domain.quirks import Placement
from refresher.domain.secret import Secret
from refresher.oauth.documents import read_fields
from refresher.oauth.introspection import Introspected, asked_about, read_introspection
from refresher.oauth.metadata import places
from refresher.oauth.patience import Patience
from refresher.oauth.requests import TokenRequest
from refresher.oauth.responses import read_retry_after
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.oauth.transport import Reply

ANSWER_WITHIN = 15.0
"""Seconds one of these requests may take."""

OK, UNAUTHORIZED = 200, 401

LATER = frozenset({429, 503})
"""Statuses that say: ask again."""

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before a request that came too soon is sent again, if the server names none."""

LONGEST_PAUSE = 60.0

ENDPOINTS = ("introspection_endpoint", "userinfo_endpoint", "revocation_endpoint")
"""What the metadata tell that measuring uses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a server is asked beside its token endpoint; None where nothing is known."""

    introspection: str | None = None
    userinfo: str | None = None
    probe: str | None = None
    """A URL that takes access tokens, which the operator names."""
    revocation: str | None = None


async def discovered(
    endpoint: TokenEndpoint, client: Client, documents: tuple[str, ...] = ()
) -> Mapping[str, str]:
    """What the metadata of CLIENT's server name, of ``ENDPOINTS``.

    Args:
        documents: where metadata may be, before the usual places.

    Metadata count only if they name the client's own token endpoint. The client's secret goes
    to what they name, so without TLS that must be on the same host.
    """
    token = client.endpoints.token
    for url in dict.fromkeys((*documents, *_usual(client))):
        reply = await endpoint.get(client, url, patience=Patience(ANSWER_WITHIN))
        if not isinstance(reply, Reply) or reply.status != OK:
            continue
        fields = read_fields(reply.body)
        if fields is None or fields.get("token_endpoint") != token:
            continue
        named = {name: str(fields.get(name) or "") for name in ENDPOINTS}
        is_proven = url.startswith("https:")
        return {
            name: each
            for name, each in named.items()
            if _is_beside(each, token) or (is_proven and each.startswith("https:"))
        }
    return {}


def _usual(client: Client) -> list[str]:
    """The places of metadata: of the issuer, or of whatever could be one above the endpoint."""
    if client.endpoints.issuer is not None:
        return list(places(client.endpoints.issuer))
    parts = urlsplit(client.endpoints.token)._replace(query="", fragment="")
    names = [name for name in parts.path.split("/") if name][:-1]
    found: list[str] = []
    for count in range(len(names) + 1):
        issuer = parts._replace(path="/".join(["", *names[:count]]) if count else "").geturl()
        # The last is where the standard has it for an issuer without a path alone.
        found += [*places(issuer), f"{issuer}/.well-known/oauth-authorization-server"]
    return list(dict.fromkeys(found))


def _is_beside(url: str, token: str) -> bool:
    return urlsplit(url)[:2] == urlsplit(token)[:2]


@dataclass(slots=True, kw_only=True)
class Liveness:
    """Asks about the access tokens of CLIENT.

    Args:
        client: as it is authenticated.
    """

    endpoint: TokenEndpoint
    client: Client
    places: Places
    clock: Clock = field(default_factory=SystemClock)
    asked: str | None = field(default=None, init=False)
    """How it is asked; None before the first token, and where nobody can tell."""
    told: str | None = field(default=None, init=False)
    """What introspection said of the first access token, which was fresh."""
    _is_settled: bool = field(default=False, init=False)

    async def lives(self, access_token: Secret) -> bool | None:
        """Whether ACCESS_TOKEN works; None where nobody can tell.

        The first one that is asked about is fresh, and settles how all are asked.
        """
        if self._is_settled:
            return None if self.asked is None else await self._ask(self.asked, access_token)
        self._is_settled = True
        for way in ("probe", "introspection", "userinfo"):
            if not getattr(self.places, way) or (self.asked and way != "introspection"):
                continue
            if await self._ask(way, access_token) and self.asked is None:
                self.asked = way
        return True if self.asked else None

    async def use(self, access_token: Secret) -> bool:
        """Use ACCESS_TOKEN as a consumer does; introspection is no use of it."""
        for way in ("probe", "userinfo"):
            if getattr(self.places, way) and await self._ask(way, access_token):
                return True
        return False

    async def _ask(self, way: str, access_token: Secret) -> bool | None:
        url = getattr(self.places, way)
        if way == "introspection":
            return await self._introspect(url, access_token)
        return await self._get(url, access_token)

    async def _introspect(self, url: str, access_token: Secret) -> bool | None:
        """What the server says of it (RFC 7662 2.2); the first time that is kept to be told."""
        reply = await self._send(asked_about(url, access_token))
        found: Introspected | str = "no answer"
        if reply is not None:
            found = read_introspection(reply, self.clock.now())
        if self.told is None:
            self.told = _told(found)
        return None if isinstance(found, str) else found.is_active

    async def _get(self, url: str, access_token: Secret) -> bool | None:
        """RFC 6750 2.1 and 3: 401 says that the token is no good, 403 says nothing of it."""
        asked = TokenRequest(
            endpoint=url,
            placement=Placement.GET,
            parameters={},
            headers={"Authorization": f"Bearer {access_token.reveal()}"},
            authenticated=False,
        )
        reply = await self._send(asked)
        if reply is None:
            return None
        if 200 <= reply.status < 300:  # noqa: PLR2004  the class of status codes
            return True
        told = f"{reply.headers.get('WWW-Authenticate', '')} {reply.body[:4096]!r}"
        if reply.status == UNAUTHORIZED or "invalid_token" in told:
            return False
        return None

    async def _send(self, asked: TokenRequest) -> Reply | None:
        """What comes of ASKED, which a server may want to be asked later."""
        for pause in PAUSES:
            reply = await self.endpoint.send(self.client, asked, patience=Patience(ANSWER_WITHIN))
            if not isinstance(reply, Reply):
                return None
            if reply.status not in LATER:
                return reply
            told = read_retry_after(reply.headers.get("Retry-After"), self.clock.now())
            await anyio.sleep(pause if told is None else min(told, LONGEST_PAUSE))
        return None


def _told(found: Introspected | str) -> str:
    """What introspection said of a fresh access token, in words."""
    begins = "introspection of a fresh access token says"
    if isinstance(found, str):
        return f"{begins} nothing ({found}): it may be closed to this client"
    if not found.is_active:
        return f"{begins} that it is inactive: nothing can be told by it"
    ends = "no end" if found.left is None else f"an end in {found.left:.0f} s"
    return f"{begins} that it is active, with {ends}"
