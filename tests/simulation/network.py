"""The network between the processes and the server: loses, delays, doubles, reorders."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from refresher.domain.clients import Client
from refresher.domain.outcomes import (
    GrantRejected,
    NotSent,
    Outcome,
    OutcomeUnknown,
    Refreshed,
    RefreshTokenOnly,
    Transient,
)
from refresher.domain.secret import Secret
from refresher.oauth.patience import Patience
from refresher.oauth.revocation import RevocationResult
from tests.simulation.chance import Chance
from tests.simulation.server import KINDS, Server, answer_of

if TYPE_CHECKING:
    from tests.simulation.process import Process

UNREADABLE = b"{unreadable"
RETRY_AFTER = (None, 1.0, 20.0, 40.0)
UNDECIPHERABLE = b"\x00\xff token"
"""Of a whole answer: what it held may be the successor."""

LONGEST_DELAY = 60.0
"""Seconds a request or an answer may be late: more than any deadline, and both together more
than any answer is read for."""


@dataclass(eq=False)
class Request:
    """One request of one process, on the wire or waited for."""

    process: "Process"
    client: str
    name: str
    secret: Secret
    sequence: int
    durable: int
    """The newest generation of its line that was in the vault when it was sent."""
    troubles: int
    """The client's count of troubles at that time."""
    answer: asyncio.Future[Outcome]
    sent_at: float
    is_refused: bool = False
    """Whether an answer came that says it did nothing."""
    hears_copy: bool = False
    """Whether it is the doubled request's answer that comes back."""

    @property
    def is_awaited(self) -> bool:
        """Whether a process that owns the grant still waits for the answer."""
        return self.process.is_running and not self.answer.done()


class Network:
    """Carries requests to the server and answers back, each at its own time."""

    def __init__(
        self, chance: Chance, server: Server, at: Callable[[float, Callable[[], None]], None]
    ) -> None:
        self._chance, self._server, self._at = chance, server, at
        self.heard: Callable[[str], None] = lambda _: None
        """Told what the server did."""
        self.gave_up: Callable[[Request], None] = lambda _: None
        """Told of an answer that is read no longer."""
        self.under_way = 0
        """Requests that may still reach the server."""

    async def refresh(self, request: Request, patience: Patience) -> Outcome:
        """Send REQUEST and wait for its answer as long as PATIENCE lasts."""
        self._send(request)
        with suppress(TimeoutError):
            async with patience.limit():
                patience.left()
                return await request.answer
        request.answer.cancel()
        self.gave_up(request)
        self._server.trouble(request.client)
        self._chance.seen["timed out"] += 1
        return OutcomeUnknown(reason="timeout")

    async def redeem(self, name: str, client: Client) -> Outcome:
        """Exchange the code a person brought; it is answered or it is not."""
        await asyncio.sleep(self._chance.around(0.5))
        if self._chance.strikes("code refused", 0.1):
            return GrantRejected(error="invalid_grant", status=400)
        pair = self._server.open(name, client.name, is_login=True)
        await asyncio.sleep(self._chance.around(0.5))
        if self._chance.strikes("code's answer lost", 0.05):
            return OutcomeUnknown(reason="disconnected")
        return Refreshed(answer=answer_of(pair), status=200)

    async def revoke(
        self, client: str, refresh_token: Secret | None, access_token: Secret | None
    ) -> RevocationResult:
        """Ask for a revocation; the request, its answer or the server may be lost."""
        await asyncio.sleep(self._chance.around(0.3))
        if self._chance.strikes("revocation not sent", 0.1):
            return RevocationResult.NOT_SENT
        if self._chance.strikes("revocation refused", 0.1):
            return RevocationResult.REFUSED
        self._server.revoke_token(client, refresh_token, access_token)
        self.heard(f"revoked for {client}")
        await asyncio.sleep(self._chance.around(0.3))
        if self._chance.strikes("revocation's answer lost", 0.1):
            return RevocationResult.UNKNOWN
        return RevocationResult.REVOKED

    def _send(self, request: Request) -> None:
        if self._hits("not sent", 0.03, request):
            self._reply(request, NotSent(reason="refused"))
            return
        delay = self._chance.around(0.1)
        if self._hits("request late", 0.01, request):
            delay += self._chance.between(5.0, LONGEST_DELAY)
        if self._hits("request lost", 0.02, request):
            self._lose(request)
            return
        self._carry(request, delay, is_copy=False)
        if self._hits("duplicate", 0.01, request):
            request.hears_copy = self._chance.is_heads()
            self._carry(request, delay + self._chance.around(5.0), is_copy=True)

    def _carry(self, request: Request, delay: float, *, is_copy: bool) -> None:
        self.under_way += 1
        self._at(delay, lambda: self._arrive(request, is_copy=is_copy))

    def _arrive(self, request: Request, *, is_copy: bool) -> None:
        self.under_way -= 1
        if self._hits("throttled", 0.02, request):
            wait = self._chance.choice(RETRY_AFTER)
            self._reply(request, Transient(reason="http_429", status=429, retry_after=wait))
            return
        if self._hits("server error", 0.01, request):
            self._reply(request, self._unavailable(request))
            return
        is_awaited = request.is_awaited and not is_copy
        if not is_awaited:
            self._chance.seen["processed for nobody"] += 1
        outcome = self._server.refresh(
            request.secret,
            request.client,
            is_awaited=is_awaited,
            durable=request.durable,
            troubles=request.troubles,
        )
        self.heard(f"served {request.name} {request.sequence} {is_awaited=}: {outcome}")
        if isinstance(outcome, Refreshed):
            outcome = self._spoil(request, outcome)
        if is_copy is request.hears_copy:
            self._return(request, outcome)

    def _spoil(self, request: Request, outcome: Refreshed) -> Outcome:
        """The server did its work and says it badly."""
        if self._hits("unreadable answer", 0.01, request):
            if self._chance.is_heads():
                return OutcomeUnknown(reason="unreadable", status=200, body=UNREADABLE)
            return OutcomeUnknown(
                reason="unreadable", status=200, body=UNDECIPHERABLE, may_hold_tokens=True
            )
        if self._hits("error after processing", 0.01, request):
            return self._unavailable(request)
        rotated = outcome.answer.refresh_token not in {None, request.secret}
        if rotated and self._hits("refresh token only", 0.01, request):
            return RefreshTokenOnly(answer=replace(outcome.answer, access_token=None), status=200)
        return outcome

    def _return(self, request: Request, outcome: Outcome) -> None:
        if self._hits("answer lost", 0.03, request):
            self._lose(request)
            return
        delay = self._chance.around(0.1)
        if self._hits("answer late", 0.01, request):
            delay += self._chance.between(5.0, LONGEST_DELAY)
        self._reply(request, outcome, delay)

    def _lose(self, request: Request) -> None:
        """The connection breaks, and the client sees it or waits in vain."""
        if self._chance.is_heads():
            self._reply(request, OutcomeUnknown(reason="disconnected"))

    def _reply(self, request: Request, outcome: Outcome, delay: float | None = None) -> None:
        after = self._chance.around(0.05) if delay is None else delay
        self._at(after, lambda: _deliver(request, outcome))

    def _unavailable(self, request: Request) -> Outcome:
        wait = self._chance.choice(RETRY_AFTER)
        if wait is not None:
            self._server.trouble(request.client)  # it may last longer than a grace window
        return OutcomeUnknown(reason="http_503", status=503, retry_after=wait)

    def _hits(self, what: str, probability: float, request: Request) -> bool:
        if KINDS[request.client].is_quiet or not self._chance.strikes(what, probability):
            return False
        self._server.trouble(request.client)
        return True


def _deliver(request: Request, outcome: Outcome) -> None:
    """A process that died or gave up has no socket any more; a paused one has."""
    if request.process.is_alive and not request.answer.done():
        request.answer.set_result(outcome)
