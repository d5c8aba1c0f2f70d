"""Administration and logins to test: scripted endpoints, and whom they told."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from refresher.domain.clients import Client
from refresher.domain.outcomes import (
    Outcome,
)
from refresher.domain.secret import Secret
from refresher.engine.administration import Administration
from refresher.engine.durability import Durability
from refresher.engine.logins import Login, Logins
from refresher.oauth.revocation import RevocationResult
from refresher.vault.vault import Vault
from tests.engine.world import Endpoint, FakeClock, answering
from tests.vault.world import (
    CRM,
)

REDIRECT = "http://127.0.0.1:8400/callback"


@dataclass
class Revocations:
    """A revocation endpoint that answers RESULT."""

    result: RevocationResult = RevocationResult.REVOKED
    asked: list[tuple[str, Secret | None, Secret | None]] = field(default_factory=list)

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
        return self.result


@dataclass
class Office:
    """An administration, and whom it told."""

    administration: Administration
    logins: Logins
    endpoint: Endpoint
    revocations: Revocations
    clock: FakeClock
    clients: dict[str, Client]
    published: list[str]
    woken: list[None]


def open_office(
    vault: Vault, *outcomes: Outcome, clients: Mapping[str, Client] | None = None
) -> Office:
    """An administration whose token endpoint gives OUTCOMES."""
    endpoint, revocations, clock = answering(*outcomes), Revocations(), FakeClock()
    known = {"crm": CRM} if clients is None else dict(clients)
    published: list[str] = []
    woken: list[None] = []
    durability = Durability(vault)
    administration = Administration(
        vault=vault,
        revoke=revocations,
        clients=known,
        durability=durability,
        publish=published.append,
        wake=lambda: woken.append(None),
        clock=clock,
    )
    logins = Logins(
        vault=vault,
        endpoint=endpoint,
        clients=known,
        durability=durability,
        publish=published.append,
        wake=lambda: woken.append(None),
        clock=clock,
    )
    return Office(administration, logins, endpoint, revocations, clock, known, published, woken)


def callback(login: Login, **changes: str) -> str:
    """The URL the browser ends at after the consent."""
    state = login.request.state.reveal()
    query = {"code": "the-code", "state": state} | changes
    return f"{REDIRECT}?" + "&".join(f"{name}={value}" for name, value in query.items())
