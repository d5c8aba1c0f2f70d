"""What people ask for, to be tested: scripted endpoints, and whom they told."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import anyio

from refresher.domain.clients import Client, Revocation
from refresher.domain.outcomes import (
    Outcome,
)
from refresher.domain.secret import Secret
from refresher.engine.administration import Administration
from refresher.engine.durability import Durability
from refresher.engine.keeping import Keeping
from refresher.engine.logins import Begun, Logins
from refresher.engine.revoking import Revoking
from refresher.oauth.authorization import AuthorizationRequest
from refresher.oauth.revocation import RevocationResult
from refresher.vault.vault import Vault
from tests.engine.world import Endpoint, answering
from tests.vault.world import CRM, FakeClock, clock_of, make_client

REDIRECT = "http://127.0.0.1:8400/callback"

PROMISING = {"https://promising.example"}
"""Issuers whose metadata promise that their redirects name them."""

REVOCABLE = make_client(revocation=Revocation(endpoint="https://crm.example/revoke"))
"""A client whose provider revokes as RFC 7009 says."""


@dataclass
class Revocations:
    """Revocation endpoints that answer RESULT; those of the clients in HANGS never do."""

    result: RevocationResult = RevocationResult.REVOKED
    asked: list[tuple[str, Secret | None, Secret | None]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    """Which of both tokens the provider takes, as the client asked."""
    hangs: set[str] = field(default_factory=set)
    released: anyio.Event = field(default_factory=anyio.Event)
    """Set: whoever hangs answers after all."""
    server: Callable[[str], None] | None = None
    """Told of every refresh token that it is to revoke."""
    at_once: Counter[str] = field(default_factory=Counter)
    most_at_once: dict[str, int] = field(default_factory=dict)

    async def __call__(
        self,
        client: Client,
        *,
        refresh_token: Secret | None,
        access_token: Secret | None,
        deadline: float,
    ) -> RevocationResult:
        assert deadline > 0
        self.asked.append((client.name, refresh_token, access_token))
        assert client.endpoints.revocation is not None
        self.kinds.append(client.endpoints.revocation.token)
        self.at_once[client.name] += 1
        most = max(self.most_at_once.get(client.name, 0), self.at_once[client.name])
        self.most_at_once[client.name] = most
        try:
            if client.name in self.hangs:
                await self.released.wait()
        finally:
            self.at_once[client.name] -= 1
        if self.server is not None and refresh_token is not None:
            self.server(refresh_token.reveal())
        return self.result


@dataclass
class Office:
    """What people ask, and whom it told."""

    administration: Administration
    logins: Logins
    revoking: Revoking
    keeping: Keeping
    endpoint: Endpoint
    revocations: Revocations
    clock: FakeClock
    clients: dict[str, Client]
    published: list[str]
    behind: list[int]
    woken: list[None]


def open_office(
    vault: Vault, *outcomes: Outcome, clients: Mapping[str, Client] | None = None
) -> Office:
    """What people ask, where the token endpoint gives OUTCOMES."""
    endpoint, revocations, clock = answering(*outcomes), Revocations(), clock_of(vault)
    known = {"crm": CRM} if clients is None else dict(clients)
    published: list[str] = []
    behind: list[int] = []
    woken: list[None] = []

    async def ready(client: Client) -> Client:
        promises = client.endpoints.issuer in PROMISING
        endpoints = replace(client.endpoints, promises_issuer=promises)
        return replace(client, endpoints=endpoints)

    async def push(client: Client, request: AuthorizationRequest) -> AuthorizationRequest:
        return replace(request, url=f"https://{client.name}.example/authorize?request_uri=pushed")

    durability, watched = Durability(vault), vault.clock
    administration = Administration(
        vault=vault,
        clients=known,
        publish=published.append,
        publish_behind=behind.append,
        wake=lambda: woken.append(None),
        clock=watched,
    )
    logins = Logins(
        vault=vault,
        endpoint=endpoint,
        ready=ready,
        push=push,
        clients=known,
        durability=durability,
        publish=published.append,
        wake=lambda: woken.append(None),
        clock=watched,
    )
    revoking = Revoking(
        vault=vault, revoke=revocations, clients=known, publish=published.append, clock=clock
    )
    keeping = Keeping(
        vault=vault,
        clients=known,
        publish=published.append,
        wake=lambda: woken.append(None),
        clock=watched,
    )
    return Office(
        *(administration, logins, revoking, keeping, endpoint),
        *(revocations, clock, known, published, behind),
        woken=woken,
    )


def callback(login: Begun, **changes: str) -> str:
    """The URL the browser ends at after the consent."""
    state = login.request.awaited.state.reveal()
    query = {"code": "the-code", "state": state} | changes
    return f"{REDIRECT}?" + "&".join(f"{name}={value}" for name, value in query.items())
