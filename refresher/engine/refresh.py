"""One refresh, in the order it happens: claim, send, commit, publish.

Every step leaves the vault in a state from which a new process goes on without loss
(guarantees G2 and G3): the intent is durable before the request leaves, and an answer is
durable before anything else happens to it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol

import anyio

from refresher.clock import Clock, Instant
from refresher.domain import schedule
from refresher.domain.adoption import Attempt, Transition
from refresher.domain.claiming import Room
from refresher.domain.clients import Client
from refresher.domain.commit_rule import Verdict
from refresher.domain.faults import usual_fault
from refresher.domain.grants import Claim, Fault, Grant, Publication
from refresher.domain.outcomes import (
    SECRET_REPLACED,
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
from refresher.domain.reasons import Reason
from refresher.domain.renewal import Renewal
from refresher.domain.self_renewing import as_it_acts
from refresher.domain.transition import after_bug, held_back, transition
from refresher.engine.announcements import announce, announce_incident, announce_scope
from refresher.engine.durability import Durability
from refresher.engine.instants import attempt_since
from refresher.engine.records import as_it_came, exchange_record
from refresher.engine.supervision import Shield, report_bug
from refresher.engine.windows import Windows
from refresher.errors import VaultUnavailable
from refresher.logs import Event, emit
from refresher.oauth.patience import Lateness, Patience
from refresher.vault.exchanges import Committed
from refresher.vault.vault import Vault


class RefreshEndpoint(Protocol):
    """Sends one refresh request; never raises for what network or server do."""

    async def refresh(
        self,
        client: Client,
        renewal: Renewal,
        *,
        scope: tuple[str, ...],
        redirect_uri: str | None,
        patience: Patience,
    ) -> Outcome:
        """Send one token request that presents RENEWAL."""


LONGEST_QUESTION = 1.0
"""Seconds an answer may wait for the vault to tell whose its refresh token is."""

Blame = Callable[[Client, Claim, Outcome], Fault | None]
"""Whose a failure was; ``Admission.blame`` knows what happens to other grants."""

Reread = Callable[[Client, str], Awaitable[bool]]
"""Looks again at the secrets of a client, as it was sent, that was refused with an error;
whether they are others by now."""


async def unchanged(_: Client, __: str) -> bool:
    """The secrets of a command that has just read them."""
    return False


LearnEnd = Callable[[Client, Grant, TokenAnswer], Awaitable[None]]
"""Asks when a token ends whose answer told no end; everything of it is durable and published."""


async def learns_nothing(_: Client, __: Grant, ___: TokenAnswer) -> None:
    """Of servers that tell, or cannot be asked."""


class Refresh:
    """Carries out refreshes of claimed grants."""

    def __init__(
        self,
        *,
        vault: Vault,
        endpoint: RefreshEndpoint,
        durability: Durability,
        publish: Callable[[str], None],
        clock: Clock,
        publish_committed: Callable[[Publication], None] | None = None,
        reread: Reread = unchanged,
        learn_end: LearnEnd = learns_nothing,
    ) -> None:
        self._learn_end = learn_end
        self._reread = reread
        self._windows = Windows()
        self._lateness: dict[float, Lateness] = {}
        self._vault = vault
        self._endpoint = endpoint
        self._durability = durability
        self.publish = publish
        self._publish_committed = publish_committed or (lambda known: publish(known.grant.name))
        self._clock = clock

    async def claim(
        self,
        rooms: Sequence[Room],
        shared: int,
        *,
        only: str | None = None,
    ) -> list[Claim]:
        """Lease due grants and write down that their exchanges are about to be sent.

        Args:
            rooms: the clients that may begin exchanges, and how many.
            shared: places for all of them, beside the one that each gate has itself.
            only: the one grant to claim, for a command that refreshes it alone.

        Raises:
            VaultUnavailable: nothing may be sent, and nothing was.
        """
        claimed: list[Claim] = []
        with anyio.CancelScope(shield=True):
            claimed += await self._vault.claim(rooms, shared, only=only)
        return claimed

    async def run(
        self,
        claim: Claim,
        client: Client,
        *,
        blame: Blame = lambda _, __, outcome: usual_fault(outcome),
        begun: Callable[[Patience], None] = lambda _: None,
        on_late: Callable[[Patience], None] | None = None,
        shield: Shield | None = None,
    ) -> Outcome:
        """Send, commit and publish what CLAIM allows; shielded, so it ends by itself.

        Args:
            shield: of the task, where it has one.
            begun: given what the caller may end the request with.
            on_late: told when the deadline has passed and the answer is read all the same,
                because losing it would cost the grant.
        """
        with shield or anyio.CancelScope(shield=True):
            patience = self._patience(claim, client, on_late)
            begun(patience)
            # To the end of the doubt: an answer that waits for it is in memory alone.
            with self._durability.exchange():
                outcome, attempt = await self._send(claim, client, patience)
                claim = claim.on_clock(self._vault.set_back)
                outcome = await self._doubted(claim, client, outcome)
            outcome, change = _judged(claim, self._windows.of(client), outcome, attempt, blame)
            committed = await self._commit(claim, change)
            if committed.publication is not None:
                self._publish_committed(committed.publication)
            else:
                self.publish(claim.grant.name)
        self._report(claim, outcome, change, committed, attempt)
        if isinstance(outcome, Refreshed) and committed.verdict is Verdict.APPLY:
            assert committed.grant is not None
            await self._learn_end(client, committed.grant, outcome.answer)
        return outcome

    async def may_send(self, claim: Claim) -> bool:
        """Whether CLAIM still stands, asked right before the request leaves.

        Since it was made a person may have logged in, and a process that was taken for dead
        may have woken and brought a successor of what would be presented (G2, G3).
        """
        try:
            return await self._vault.is_held(claim)
        except VaultUnavailable:
            return False  # what cannot be read now could not be committed either

    async def hold_back(self, claim: Claim) -> None:
        """Give CLAIM back unsent: it no longer stands, or its endpoint wants patience."""
        with anyio.CancelScope(shield=True):
            await self._commit(claim, held_back(claim))

    async def give_back(self, claim: Claim) -> None:
        """End the lease of an exchange that a bug broke, leaving its outcome unknown."""
        with anyio.CancelScope(shield=True):
            now = self._clock.now()
            claim = claim.on_clock(self._vault.set_back)
            await self._commit(claim, after_bug(claim, now))

    def _patience(
        self, claim: Claim, client: Client, on_late: Callable[[Patience], None] | None
    ) -> Patience:
        """How long to wait for the answer, by what losing it would cost."""
        now, end = self._clock.now(), claim.grant.expires_at
        remaining = None if end is None else end - now
        quirks = as_it_acts(client, claim.grant).quirks
        wait = schedule.waiting(
            quirks.rotation, quirks.response_timeout, claim.intent, now, remaining
        )
        if wait.reading <= wait.deadline:
            return Patience(wait.reading)
        lateness = self._lateness.get(wait.deadline)
        if lateness is None:  # as many as clients have deadlines
            lateness = self._lateness[wait.deadline] = Lateness(wait.deadline)
        return Patience(wait.reading, lateness=lateness, on_late=on_late)

    async def _doubted(self, claim: Claim, client: Client, outcome: Outcome) -> Outcome:
        """OUTCOME, unless it is not to be believed before somebody else was asked.

        Nothing in here may cost an answer: what goes wrong leaves the outcome as it was.
        """
        if isinstance(outcome, Refreshed) and not outcome.answer.is_searched:
            return outcome
        try:
            return await self._asked_about(claim, client, outcome)
        except Exception as error:  # noqa: BLE001  supervision: the answer is worth more
            report_bug("doubt", error, grant=claim.grant.name)
            return outcome

    async def _asked_about(self, claim: Claim, client: Client, outcome: Outcome) -> Outcome:
        match outcome:
            case ClientRejected(error=error, status=status) if await self._reread(client, error):
                # Our secret was the old one: the same grant again, with the new one.
                return Transient(reason=SECRET_REPLACED, status=status)
            case (
                Refreshed(answer=answer, status=status)
                | RefreshTokenOnly(answer=answer, status=status)
            ) if answer.is_searched and await self._is_anothers(claim, answer):
                reason, body = "tokens_of_another_grant", as_it_came(answer)
                return OutcomeUnknown(reason=reason, status=status, body=body, may_hold_tokens=True)
            case _:
                return outcome

    async def _is_anothers(self, claim: Claim, answer: TokenAnswer) -> bool:
        """Whether another grant of the client holds the refresh token that a search found."""
        if answer.refresh_token is None:
            return False
        asking = asyncio.ensure_future(self._vault.owner_of(claim.grant, answer.refresh_token))
        # A vault that refuses or hangs is no reason to keep an answer in memory alone.
        asking.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait([asking], timeout=LONGEST_QUESTION)
        is_known = asking.done() and asking.exception() is None
        return is_known and asking.result() is not None

    async def _send(
        self, claim: Claim, client: Client, patience: Patience
    ) -> tuple[Outcome, Attempt]:
        grant = claim.grant
        sent = Instant.of(self._clock)
        try:
            outcome = await self._endpoint.refresh(
                client,
                claim.renewal,
                scope=grant.scope if grant.kind.renews_itself else grant.scope or client.scope,
                redirect_uri=grant.redirect_uri,
                patience=patience,
            )
        finally:
            patience.over()
        return outcome, attempt_since(sent, self._clock)

    async def _commit(self, claim: Claim, change: Transition) -> Committed:
        """Commit CHANGE, which is of the clock that CLAIM is of."""
        return await self._durability.until_written(
            lambda: self._vault.commit(claim, change),
            grant=claim.grant,
            record=exchange_record(claim, change),
        )

    def _report(
        self,
        claim: Claim,
        outcome: Outcome,
        change: Transition,
        committed: Committed,
        attempt: Attempt,
    ) -> None:
        """Write the canonical line of the exchange, and what it did to the grant."""
        before, after = claim.grant, committed.grant
        verdict = committed.verdict
        emit(
            _event(outcome) if verdict is not Verdict.SUPERSEDED else Event.EXCHANGE_SUPERSEDED,
            grant=before.name,
            client=before.client,
            sequence=claim.intent.sequence,
            replay=claim.intent.is_replay,
            **_described(outcome),
            duration_ms=round((attempt.ended_at - attempt.sent_at) * 1000, 1),
            state=after.state.value if after else None,
            reason=after.reason if after else None,
            version=after.version if after else None,
            expires_at=after.expires_at if after else None,
            next_attempt_at=after.due_at if after else None,
            failures=after.failures if after else None,
        )
        for warning in change.warnings:
            emit(Event.ANSWER_DOUBTED, grant=before.name, client=before.client, reason=warning)
        if verdict is Verdict.SUPERSEDED and change.tokens is not None:
            late = Event.REVOCATION_PARKED if committed.is_parked else Event.ANSWER_ORPHANED
            emit(late, grant=before.name, sequence=claim.intent.sequence)
        if change.kept is not None:
            emit(Event.ANSWER_KEPT, grant=before.name, sequence=claim.intent.sequence)
        if after is not None and verdict is Verdict.APPLY:
            self._windows.note(after)
            announce(before, after)
            announce_scope(claim, change.tokens)
        if committed.incident is not None:
            announce_incident(committed.incident)


def _judged(
    claim: Claim, client: Client, outcome: Outcome, attempt: Attempt, blame: Blame
) -> tuple[Outcome, Transition]:
    """What OUTCOME makes of the grant; a bug in the rules must not cost the answer."""
    if isinstance(outcome, AnswerUnread):
        report_bug("answer", outcome.bug, grant=claim.grant.name)
    try:
        if (fault := blame(client, claim, outcome)) is not None:
            attempt = replace(attempt, fault=fault)
        return outcome, transition(claim, client, outcome, attempt)
    except Exception as error:  # noqa: BLE001  supervision: the answer is worth more
        report_bug("transition", error, grant=claim.grant.name)
        match outcome:
            case (
                Refreshed(answer=answer, status=status)
                | RefreshTokenOnly(answer=answer, status=status)
            ):
                unread = AnswerUnread(status=status, body=as_it_came(answer), bug=error)
                return unread, transition(claim, client, unread, attempt)
            case _:
                return outcome, after_bug(claim, attempt.ended_at)


def _event(outcome: Outcome) -> Event:
    match outcome:
        case Refreshed():
            return Event.EXCHANGE_SUCCEEDED
        case GrantRejected() | ClientRejected() | Misconfigured() | ProofDemanded():
            return Event.EXCHANGE_REJECTED
        case (
            RefreshTokenOnly()
            | NotSent()
            | SubjectMissing()
            | Transient()
            | TooEarly()
            | OutcomeUnknown()
            | AnswerUnread()
            | RequestRejected()
        ):
            return Event.EXCHANGE_FAILED


def _described(outcome: Outcome) -> dict[str, object]:
    """The fields of the canonical line that say what came back, without its content."""
    fields: dict[str, object] = {"outcome": type(outcome).__name__}
    match outcome:
        case (
            Refreshed(answer=answer, status=status) | RefreshTokenOnly(answer=answer, status=status)
        ):
            return fields | {"status": status, "rotated": answer.refresh_token is not None}
        case NotSent(reason=reason):
            return fields | {"error": reason}
        case SubjectMissing():
            return fields | {"error": Reason.SUBJECT_MISSING}
        case AnswerUnread(status=status):
            return fields | {"status": status, "error": "internal_error"}
        case Transient() | OutcomeUnknown():
            return fields | {
                "status": outcome.status,
                "error": outcome.reason,
                "retry_s": outcome.retry_after,
            }
        case (
            GrantRejected()
            | ClientRejected()
            | RequestRejected()
            | Misconfigured()
            | ProofDemanded()
            | TooEarly()
        ):
            return fields | {"status": outcome.status, "error_code": outcome.error}
