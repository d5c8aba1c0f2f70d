"""A real server as the experiments ask it."""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import assert_never

import anyio

from refresher.clock import Clock
from refresher.domain.clients import Client, Revocation
from refresher.domain.outcomes import (
    AnswerUnread,
    ClientRejected,
    GrantRejected,
    Misconfigured,
    NotSent,
    Outcome,
    OutcomeUnknown,
    ProofDemanded,
    Refreshed,
    RefreshTokenOnly,
    RequestRejected,
    SubjectMissing,
    TokenAnswer,
    TooEarly,
    Transient,
)
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth import refresh_token as refresh_token_grant
from refresher.oauth import revocation
from refresher.oauth.documents import read_fields
from refresher.oauth.error_codes import UNRECOGNIZED
from refresher.oauth.measuring.liveness import Liveness
from refresher.oauth.measuring.observed import Answer, Said, Tokens, Verdict
from refresher.oauth.patience import Patience
from refresher.oauth.requests import single
from refresher.oauth.responses import HTML_PAGE, classify
from refresher.oauth.revocation import RevocationResult
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.oauth.transport import Reply

ANSWER_WITHIN = 30.0
"""Seconds an answer may take; a slow one makes a window less certain."""

TRIES = 6
"""Times that a request is sent which the server says it did not take."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before the second of them, doubled for each that follows."""

REVOCATION_PAUSES = (1.0, 3.0, 9.0)
"""Seconds before a token is revoked once more, and before that is given up."""

AGAIN = frozenset({
    RevocationResult.REFUSED, RevocationResult.UNKNOWN, RevocationResult.NOT_SENT,
})  # fmt: skip
"""What a rate limit may have come to: asking again is harmless."""

TOLD = (
    *("error", "error_description", "error_codes", "error_code", "error_subcode", "suberror"),
    *("code", "message", "reason", "status", "errors", "ok", "success"),
)
"""Fields of an answer that tell an error; others may hold anything."""

LONGEST_TOLD = 200
"""Characters of one field that are shown."""

NOT_ITS_OWN = frozenset({HTML_PAGE, "http_408", "plain_to_tls_port"})
"""Refusals without a word that something in front of the server may have said."""

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{2,63}")


@dataclass(slots=True, kw_only=True)
class WiredServer:
    """The server of CLIENT.

    Args:
        log_in: lets a person make a new grant, and gives what its code brought.
    """

    endpoint: TokenEndpoint
    client: Client
    clock: Clock
    liveness: Liveness
    make_login: Callable[[str], Awaitable[TokenAnswer]]
    redirect_uri: str | None
    _seen: set[str] = field(default_factory=set)
    """Every token so far: none of them is ever shown."""

    def now(self) -> float:
        """Seconds that only grow."""
        return self.clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await anyio.sleep(seconds)

    async def log_in(self, purpose: str) -> Tokens:
        """Let a person make a new grant."""
        return self._tokens(await self.make_login(purpose))

    async def lives(self, access_token: Secret) -> bool | None:
        """Whether ACCESS_TOKEN still works."""
        return await self.liveness.lives(access_token)

    async def use(self, access_token: Secret) -> bool:
        """Use ACCESS_TOKEN as a consumer does."""
        return await self.liveness.use(access_token)

    async def present(self, refresh_token: Secret) -> Answer:
        """Ask for a refresh; sent again only where the server says that it did nothing."""
        self._seen.add(refresh_token.reveal())
        asked = refresh_token_grant.request(
            self.client,
            RefreshToken(refresh_token),
            scope=self.client.scope,
            redirect_uri=self.redirect_uri,
        )
        pause = FIRST_PAUSE
        for tried in range(1, TRIES + 1):
            # What comes back is adopted whatever happens: nobody else could revoke it.
            sent_at, wall = self.now(), self.clock.now()
            reply: Reply | NotSent | OutcomeUnknown = NotSent(reason="cancelled")
            with anyio.CancelScope(shield=True):
                reply = await self.endpoint.send(
                    self.client, asked, patience=Patience(ANSWER_WITHIN)
                )
                outcome = (
                    classify(
                        reply.status,
                        reply.headers,
                        reply.body,
                        self.client,
                        wall,
                        broken=reply.broken,
                        sent=single(asked.parameters),
                    )
                    if isinstance(reply, Reply)
                    else reply
                )
            later = _later(outcome)
            if later is None or tried == TRIES:
                return self._answer(outcome, reply, sent_at)
            await self.sleep(min(max(pause, later), LONGEST_PAUSE))
            pause *= 2
        raise AssertionError

    @property
    def can_revoke(self) -> bool:
        """Whether a revocation endpoint is known."""
        return self._revocation() is not None

    async def revoke_access(self, access_token: Secret) -> RevocationResult:
        """Revoke ACCESS_TOKEN, if the server takes one."""
        return await self._revoke(revocation.by_access_token(self.revoking()), access=access_token)

    async def revoke_refresh(self, refresh_token: Secret) -> RevocationResult:
        """Revoke REFRESH_TOKEN, if the server takes one."""
        return await self._revoke(self.revoking(), refresh=refresh_token)

    async def _revoke(
        self, client: Client, *, access: Secret | None = None, refresh: Secret | None = None
    ) -> RevocationResult:
        result = RevocationResult.NOT_SENT
        for pause in REVOCATION_PAUSES:
            result = await revocation.revoke(
                self.endpoint,
                client,
                refresh_token=refresh,
                access_token=access,
                deadline=ANSWER_WITHIN,
            )
            if result not in AGAIN:
                break
            await self.sleep(pause)
        return result

    def _revocation(self) -> Revocation | None:
        if self.client.endpoints.revocation is not None:
            return self.client.endpoints.revocation
        found = self.liveness.places.revocation
        return None if found is None else Revocation(endpoint=found)

    def revoking(self) -> Client:
        """The client, with the revocation endpoint that was found if it has none."""
        endpoints = replace(self.client.endpoints, revocation=self._revocation())
        return replace(self.client, endpoints=endpoints)

    def _tokens(self, answer: TokenAnswer) -> Tokens:
        self._seen |= {
            token.reveal() for token in (answer.access_token, answer.refresh_token) if token
        }
        return Tokens(
            access=answer.access_token,
            refresh=answer.refresh_token,
            expires_in=answer.expires_in,
            refresh_expires_in=answer.refresh_token_expires_in,
        )

    def _answer(
        self, outcome: Outcome, reply: Reply | NotSent | OutcomeUnknown, sent_at: float
    ) -> Answer:
        verdict = _verdict(outcome)
        answer = Answer(verdict=verdict, sent_at=sent_at, answered_at=self.now())
        if isinstance(outcome, Refreshed | RefreshTokenOnly):
            return replace(answer, tokens=self._tokens(outcome.answer))
        return replace(answer, said=self._said(outcome, reply))

    def _said(self, outcome: Outcome, reply: Reply | NotSent | OutcomeUnknown) -> Said:
        fields = read_fields(reply.body) if isinstance(reply, Reply) else None
        told = {
            name: value
            for name, value in (fields or {}).items()
            if name in TOLD and self._is_showable(value)
        }
        code = told.get("error")
        error = _word(outcome)
        if error == UNRECOGNIZED and isinstance(code, str) and _CODE.fullmatch(code):
            error = code
        return Said(
            status=reply.status if isinstance(reply, Reply) else None,
            body=json.dumps(told, separators=(",", ":")) if told else "",
            error=error,
            means_dead=isinstance(outcome, GrantRejected),
        )

    def _is_showable(self, value: object) -> bool:
        text = json.dumps(value)
        hidden = {*self._seen, *(secret.reveal() for secret in self.client.authentication.secrets)}
        return len(text) <= LONGEST_TOLD and not any(each and each in text for each in hidden)


def _later(outcome: Outcome) -> float | None:
    """Seconds after which the request may be sent again, for the server did nothing with it."""
    match outcome:
        case NotSent():
            return 0.0
        case Transient(is_own_word=True):
            return outcome.retry_after or 0.0
        case _:
            return None


def _verdict(outcome: Outcome) -> Verdict:
    match outcome:
        case Refreshed() | RefreshTokenOnly():
            return Verdict.ACCEPTED
        case TooEarly():
            return Verdict.EARLY
        case (
            GrantRejected()
            | RequestRejected()
            | ClientRejected()
            | Misconfigured()
            | ProofDemanded()
        ):
            return Verdict.REFUSED
        case Transient(is_own_word=False, reason=reason) if reason not in NOT_ITS_OWN:
            return Verdict.REFUSED  # a 4xx without a word
        case NotSent() | Transient() | OutcomeUnknown() | AnswerUnread() | SubjectMissing():
            return Verdict.UNCLEAR
        case _:
            assert_never(outcome)


def _word(outcome: Outcome) -> str:
    match outcome:
        case (
            GrantRejected()
            | RequestRejected()
            | ClientRejected()
            | Misconfigured()
            | ProofDemanded()
            | TooEarly()
        ):
            return outcome.error
        case NotSent() | Transient() | OutcomeUnknown():
            return outcome.reason
        case AnswerUnread():
            return "unread"
        case Refreshed() | RefreshTokenOnly() | SubjectMissing():
            return ""
        case _:
            assert_never(outcome)
