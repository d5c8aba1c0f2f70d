"""What the tests of the engine share: a clock, a scripted endpoint, lines, and the parts."""

import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import anyio

from refresher.domain.clients import Client
from refresher.domain.grants import Claim
from refresher.domain.outcomes import Outcome
from refresher.domain.renewal import Renewal
from refresher.domain.secret import Secret
from refresher.engine.admission import Admission
from refresher.engine.durability import Durability
from refresher.engine.refresh import Refresh
from refresher.engine.scheduler import Scheduler
from refresher.logs import Event
from refresher.logs.rendering import INSTANTS
from refresher.oauth.patience import Patience
from refresher.vault.vault import Vault
from tests.support.log_output import LogOutput
from tests.support.renewals import secret_of
from tests.vault.world import CRM, FakeClock, clock_of, rooms


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request that reached the endpoint."""

    client: str
    secret: str
    """The refresh token, or the code."""
    deadline: float
    scope: tuple[str, ...] = ()
    redirect_uri: str | None = None
    code_verifier: Secret | None = None


Script = Callable[[Call], Awaitable[Outcome]]


@dataclass
class Endpoint:
    """A token endpoint that answers by its script."""

    script: Script
    calls: list[Call] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    async def refresh(
        self,
        client: Client,
        renewal: Renewal,
        *,
        scope: tuple[str, ...],
        redirect_uri: str | None,
        patience: Patience,
    ) -> Outcome:
        return await self._answer(
            Call(
                client=client.name,
                secret=secret_of(renewal).reveal(),
                scope=scope,
                deadline=patience.deadline,
                redirect_uri=redirect_uri,
            )
        )

    async def redeem(
        self,
        client: Client,
        code: Secret,
        *,
        redirect_uri: str,
        code_verifier: Secret | None,
        patience: Patience,
    ) -> Outcome:
        return await self._answer(
            Call(
                client=client.name,
                secret=code.reveal(),
                redirect_uri=redirect_uri,
                code_verifier=code_verifier,
                deadline=patience.deadline,
            )
        )

    async def _answer(self, call: Call) -> Outcome:
        self.calls.append(call)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self.script(call)
        finally:
            self.in_flight -= 1


def answering(*outcomes: Outcome) -> Endpoint:
    """An endpoint that gives OUTCOMES, one a call."""
    waiting = deque(outcomes)

    async def script(_: Call) -> Outcome:
        return waiting.popleft()

    return Endpoint(script)


class Lines:
    """What was logged, as a program reads it."""

    def __init__(self) -> None:
        self.output = LogOutput()

    def all(self) -> list[dict[str, Any]]:
        """Every line so far, in order; what happened when, its own instant aside, as a number."""
        found = [json.loads(line) for line in self.output.getvalue().splitlines()]
        for line in found:
            for name in (INSTANTS - {"timestamp"}) & line.keys():
                if isinstance(line[name], str):
                    line[name] = datetime.fromisoformat(line[name]).timestamp()
        return found

    def of(self, event: Event) -> list[dict[str, Any]]:
        """Those of one event."""
        return [line for line in self.all() if line["event"] == event.value]

    def events(self) -> list[str]:
        """The events in order."""
        return [line["event"] for line in self.all()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The engine around one vault."""

    vault: Vault
    endpoint: Endpoint
    clock: FakeClock
    durability: Durability
    refresh: Refresh
    published: list[str]


def assemble(
    vault: Vault, endpoint: Endpoint, *, publish: Callable[[str], None] | None = None
) -> Parts:
    """The parts that carry out refreshes on VAULT."""
    durability = Durability(vault)
    published: list[str] = []
    return Parts(
        vault=vault,
        endpoint=endpoint,
        clock=clock_of(vault),
        durability=durability,
        refresh=Refresh(
            vault=vault,
            endpoint=endpoint,
            durability=durability,
            publish=publish or published.append,
            clock=vault.clock,
        ),
        published=published,
    )


@asynccontextmanager
async def scheduling(
    parts: Parts,
    clients: Mapping[str, Client] | None = None,
    *,
    workers: int = 4,
    admission: Admission | None = None,
) -> AsyncIterator[Scheduler]:
    """A scheduler that turns; it is drained at the end."""
    known = {"crm": CRM} if clients is None else clients
    scheduler = Scheduler(
        vault=parts.vault,
        refresh=parts.refresh,
        admission=admission or Admission(known, parts.clock),
        clients=known,
        clock=parts.clock,
        workers=workers,
    )
    async with anyio.create_task_group() as tasks:
        scheduler.start(tasks)
        yield scheduler
        await scheduler.drain()
        tasks.cancel_scope.cancel()


async def claim(parts: Parts, name: str = "acme") -> Claim:
    [claimed] = await parts.refresh.claim(rooms(crm=1), 1, only=name)
    return claimed


async def run(parts: Parts, name: str = "acme") -> Outcome:
    """One whole refresh of NAME, which must be due."""
    return await parts.refresh.run(await claim(parts, name), CRM)
