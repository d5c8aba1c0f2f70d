"""What each outcome does to a grant: the transition grant x outcome -> grant.

Pure. The vault applies the result under its commit rule; nothing here decides whether
an outcome still counts.
"""

from dataclasses import replace
from typing import assert_never

from refresher.domain import schedule
from refresher.domain.adoption import (
    Attempt,
    Transition,
    adopt_refresh,
    end_of_refresh_token,
    in_state,
    refresh_token_end,
)
from refresher.domain.clients import Client
from refresher.domain.doubts import is_predecessor_safe, predecessor_again, refused, still_lost
from refresher.domain.endings import with_end
from refresher.domain.faults import usual_fault
from refresher.domain.grants import (
    Claim,
    Fault,
    Grant,
    GrantState,
    Intent,
    TokenSet,
)
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
from refresher.domain.pauses import through
from refresher.domain.reasons import Reason, worded
from refresher.domain.self_renewing import as_it_acts, without_refresh_token
from refresher.domain.states import by_time
from refresher.domain.unread import RawAnswer


def transition(claim: Claim, client: Client, outcome: Outcome, attempt: Attempt) -> Transition:
    """Apply OUTCOME of the exchange CLAIM allowed."""
    if claim.grant.kind.renews_itself:
        client, outcome = as_it_acts(client, claim.grant), without_refresh_token(outcome)
    change = _applied(claim, client, outcome, attempt)
    if claim.grant.state is GrantState.REAUTHORIZATION_REQUIRED and change.tokens is None:
        is_answered = isinstance(outcome, GrantRejected)
        kept = still_lost(claim.grant, change.grant, is_answered=is_answered)
        return replace(change, grant=kept)
    return change


def _applied(claim: Claim, client: Client, outcome: Outcome, attempt: Attempt) -> Transition:
    grant = claim.grant
    match outcome:
        case Refreshed(answer=answer):
            return _on_probation(adopt_refresh(claim, client, answer, attempt), answer)
        case RefreshTokenOnly(answer=answer):
            return _on_probation(_refresh_token_alone(grant, client, answer, attempt), answer)
        case NotSent(reason=word):
            reason = worded(Reason.UNREACHABLE, word)
            return Transition(grant=_unprocessed(grant, client, attempt, reason))
        case SubjectMissing(subject=name):
            reason = worded(Reason.SUBJECT_MISSING, name)
            attempt = replace(attempt, fault=Fault.GRANT)
            return Transition(grant=_unprocessed(grant, client, attempt, reason))
        case Transient():
            return Transition(grant=_told_later(grant, client, outcome, attempt))
        case TooEarly(error=word):
            return _too_early(grant, client, word, attempt)
        case OutcomeUnknown() | AnswerUnread():
            return _unresolved(grant, client, outcome, attempt)
        case GrantRejected():
            return _refused(claim, client, outcome, attempt)
        case ClientRejected(error=word):
            own = attempt.fault is Fault.GRANT
            reason = worded(Reason.NOT_AUTHORIZED if own else Reason.CLIENT_REJECTED, word)
            return Transition(grant=_blocked(grant, reason, outcome, attempt))
        case Misconfigured(error=word) | ProofDemanded(error=word):
            is_proof = isinstance(outcome, ProofDemanded)
            reason = worded(Reason.PROOF_DEMANDED if is_proof else Reason.MISCONFIGURED, word)
            return Transition(grant=_blocked(grant, reason, outcome, attempt))
        case RequestRejected(error=word):
            return Transition(grant=_misunderstood(grant, client, word, attempt))
        case _:
            assert_never(outcome)


def held_back(claim: Claim) -> Transition:
    """Nothing was sent, and nothing failed: the grant is as due as it was."""
    return Transition(grant=replace(claim.grant, intent=claim.intent.without_one))


def after_bug(claim: Claim, now: float) -> Transition:
    """Look again in a while, the exchange still open: for when a rule itself is broken."""
    grant = claim.grant
    due_at = now + schedule.LONGEST_RETRY
    return Transition(
        grant=replace(
            grant, due_at=due_at, failures=grant.failures + 1, reason=Reason.INTERNAL_ERROR
        )
    )


def _refused(claim: Claim, client: Client, outcome: GrantRejected, attempt: Attempt) -> Transition:
    """Doubted, or lost; but what a search found gives way to its predecessor before that.

    Where the predecessor would cost the authorization, only once the refusal is final: a server
    whose answers are always odd has every grant on probation when it errs.
    """
    after = refused(claim, client, outcome, attempt)
    is_final = after.state is GrantState.REAUTHORIZATION_REQUIRED
    if claim.grant.on_probation and (
        is_final or is_predecessor_safe(claim.grant, client.quirks.rotation, attempt.ended_at)
    ):
        before = predecessor_again(claim, attempt)
        return Transition(grant=by_time(before, attempt.ended_at), restores_predecessor=True)
    return Transition(grant=by_time(after, attempt.ended_at))


def _on_probation(change: Transition, answer: TokenAnswer) -> Transition:
    """What a search found has still to prove itself: the vault keeps the predecessor."""
    if change.tokens is None or not answer.is_searched:
        return change
    return replace(change, tokens=replace(change.tokens, on_probation=True))


def _refresh_token_alone(
    grant: Grant, client: Client, answer: TokenAnswer, attempt: Attempt
) -> Transition:
    """The refresh token is adopted; an access token has still to be asked for."""
    tokens = TokenSet(
        access_token=None,
        refresh_token=answer.refresh_token,
        refresh_token_expires_at=refresh_token_end(answer, attempt.sent_at),
    )
    # Whatever was refused before is settled: this refresh token is good, by the server's word.
    settled = replace(grant, intent=None, refused_at=None, refusals=0, served_at=attempt.ended_at)
    after = _failed(settled, attempt, Reason.NO_ACCESS_TOKEN, Fault.GRANT)
    end = end_of_refresh_token(grant, client, tokens.refresh_token_expires_at)
    after = with_end(after, end, attempt.ended_at)
    return Transition(grant=after, tokens=tokens, warnings=answer.warnings)


def _unprocessed(
    grant: Grant,
    client: Client,
    attempt: Attempt,
    reason: str,
    retry_after: float | None = None,
) -> Grant:
    """This attempt did nothing; what earlier ones did may still be open."""
    fault = attempt.fault or Fault.ENDPOINT
    after = _failed(grant, attempt, reason, fault, retry_after)
    intent = grant.intent and grant.intent.without_one
    after = replace(after, intent=intent)
    if grant.intent is None or intent is None:
        return after
    # Promptness is for the first replay: one that reaches nobody must not become a hot loop.
    paced = replace(intent, attempts=max(grant.intent.attempts, after.failures))
    return _scheduled_replay(after, client, paced, attempt, retry_after)


def _told_later(grant: Grant, client: Client, outcome: Transient, attempt: Attempt) -> Grant:
    """Refused for now. What a gateway may have said leaves the exchange open in name only.

    Nobody knows whether the authorization server stood behind such a word and has spent the
    refresh token. A prompt replay would hit the same gateway, so the time of the next
    attempt is that of any refusal; but a final rejection later is a lost rotation.
    """
    if outcome.is_own_word and outcome.reason == SECRET_REPLACED:
        after = _unprocessed(grant, client, attempt, worded(Reason.CLIENT_REJECTED, outcome.reason))
        return replace(after, due_at=attempt.ended_at)
    if outcome.is_own_word:
        reason = worded(Reason.SERVER_BUSY, outcome.reason)
        return _unprocessed(grant, client, attempt, reason, outcome.retry_after)
    reason = worded(Reason.UNEXPLAINED, outcome.reason)
    fault = attempt.fault or Fault.ENDPOINT
    return _failed(grant, attempt, reason, fault, outcome.retry_after)


def _too_early(grant: Grant, client: Client, word: str, attempt: Attempt) -> Transition:
    """Neither grant nor client failed: the server wants the token to be nearly used up."""
    refusals = grant.early_refusals + 1
    after = replace(
        grant,
        early_refusals=refusals,
        intent=grant.intent and grant.intent.without_one,
        reason=worded(Reason.TOO_EARLY, word),
        due_at=schedule.too_early_again_at(
            attempt.ended_at, grant.expires_at, refusals, attempt.draw
        ),
    )
    warning = (
        "the server refuses a refresh before the last part of a token's life: "
        f"set refresh_window of client {client.name}"
    )
    is_known = client.quirks.refresh_window is not None or grant.refresh_window is not None
    is_first = refusals == 1 and not is_known
    return Transition(
        grant=by_time(after, attempt.ended_at), warnings=(warning,) if is_first else ()
    )


def _misunderstood(grant: Grant, client: Client, word: str, attempt: Attempt) -> Grant:
    """``invalid_request``, or a word nobody knows: permanent only once it has gone on.

    Hydra says it in passing, others for ever. Three refusals within a second are one moment,
    so time decides.
    """
    reason = worded(Reason.REQUEST_REJECTED, word)
    after = _unprocessed(grant, client, replace(attempt, fault=Fault.GRANT), reason)
    since = after.failing_since
    if since is None or attempt.ended_at - since < schedule.MISUNDERSTOOD_FOR:
        return after
    blocked = worded(Reason.MISCONFIGURED, word)
    return replace(
        _blocked(grant, blocked, None, replace(attempt, fault=Fault.GRANT)), failing_since=since
    )


def _unknown(
    grant: Grant,
    client: Client,
    attempt: Attempt,
    reason: str,
    retry_after: float | None = None,
    *,
    is_kept: bool = False,
) -> Grant:
    assert grant.intent is not None
    after = _failed(grant, attempt, reason, attempt.fault or Fault.ENDPOINT, retry_after)
    return _scheduled_replay(after, client, grant.intent, attempt, retry_after, is_kept=is_kept)


def _unresolved(
    grant: Grant, client: Client, outcome: OutcomeUnknown | AnswerUnread, attempt: Attempt
) -> Transition:
    """Nobody knows what was spent; what came and was not understood is kept."""
    kept = None
    if outcome.body is not None:
        kept = RawAnswer(status=outcome.status or 0, body=outcome.body, sent_at=attempt.sent_at)
    if isinstance(outcome, AnswerUnread):
        if outcome.may_hold_tokens:
            return Transition(grant=_waiting_to_be_read(grant, attempt), kept=kept)
        after = _unknown(grant, client, attempt, worded(Reason.OUTCOME_UNKNOWN, "internal_error"))
        return Transition(grant=after, kept=kept)
    is_kept = outcome.may_hold_tokens and kept is not None
    reason = Reason.ANSWER_KEPT if is_kept else Reason.OUTCOME_UNKNOWN
    after = _unknown(
        grant,
        client,
        attempt,
        worded(reason, outcome.reason),
        outcome.retry_after,
        is_kept=is_kept,
    )
    return Transition(grant=after, kept=kept)


def _waiting_to_be_read(grant: Grant, attempt: Attempt) -> Grant:
    """Nothing is computed here: a bug in what computes may be why the answer is unread."""
    return replace(
        grant,
        state=GrantState.PAUSED,
        reason=Reason.ANSWER_UNREAD,
        since=attempt.ended_at,
        due_at=None,
        failures=grant.failures + 1,
    )


def resume_unresolved(grant: Grant, client: Client, now: float, draw: float) -> Grant:
    """Schedule a grant whose exchange a dead process left open: recovery is the same rule.

    While an operator has paused it, the exchange stays open and waits.
    """
    assert grant.intent is not None
    attempt = Attempt(sent_at=grant.intent.first_sent_at, ended_at=now, draw=draw)
    client = as_it_acts(client, grant)
    after = _unknown(grant, client, attempt, worded(Reason.OUTCOME_UNKNOWN, "restarted"))
    if grant.state is GrantState.REAUTHORIZATION_REQUIRED:
        return still_lost(grant, after, is_answered=False)
    return through(grant, after)


def _scheduled_replay(
    after: Grant,
    client: Client,
    intent: Intent,
    attempt: Attempt,
    retry_after: float | None,
    *,
    is_kept: bool = False,
) -> Grant:
    assert after.due_at is not None
    replay = schedule.replay_at(
        attempt.ended_at,
        intent,
        client.quirks.rotation,
        client.policy.on_unknown_outcome,
        after.due_at,
        expires_at=after.expires_at,
        lifetime=after.lifetime,
        is_kept=is_kept,
    )
    if replay is None:
        is_told = after.status_reason in {Reason.OUTCOME_UNKNOWN, Reason.ANSWER_KEPT}
        reason = after.reason if is_told else Reason.OUTCOME_UNKNOWN
        return in_state(replace(after, due_at=None), GrantState.PAUSED, reason, attempt.ended_at)
    earliest = attempt.ended_at + schedule.capped_retry_after(retry_after)
    last = schedule.last_replay_at(intent.first_sent_at, client.quirks.rotation)
    if replay <= last < earliest:
        # Later nobody can fetch what an answer that was lost had brought: losing nothing
        # comes before the server's wish for quiet, for this one request.
        earliest = last
    return replace(after, due_at=max(replay, earliest))


def _blocked(
    grant: Grant,
    reason: str,
    outcome: ClientRejected | Misconfigured | ProofDemanded | None,
    attempt: Attempt,
) -> Grant:
    """Only a person can mend it: keep the grant, look again every 5 to 15 minutes."""
    usual = Fault.GRANT if outcome is None else usual_fault(outcome)
    after = replace(
        _counted(grant, reason, attempt.fault or usual, attempt.ended_at),
        due_at=attempt.ended_at + schedule.CLIENT_PROBE * (1 + 2 * attempt.draw),
        intent=grant.intent and grant.intent.without_one,
    )
    return by_time(after, attempt.ended_at)


def _failed(
    grant: Grant,
    attempt: Attempt,
    reason: str,
    fault: Fault,
    retry_after: float | None = None,
) -> Grant:
    """One more failure, to be tried again; a doubt stays what is told of the grant."""
    told = grant.reason if grant.refused_at is not None and grant.reason else reason
    after = _counted(grant, told, fault, attempt.ended_at)
    due_at = schedule.retry_at(
        attempt.ended_at,
        after.failures,
        attempt.draw,
        expires_at=grant.expires_at,
        lifetime=grant.lifetime,
        retry_after=retry_after,
    )
    return by_time(replace(after, due_at=due_at), attempt.ended_at)


def _counted(grant: Grant, reason: str, fault: Fault | None, now: float) -> Grant:
    """GRANT with one more failure; ``failing_since`` is of the present kind of failure."""
    after = replace(grant, reason=reason)
    is_same = after.status_reason == grant.status_reason and grant.failing_since is not None
    return replace(
        after,
        failures=grant.failures + 1,
        fault=fault,
        failing_since=grant.failing_since if is_same else now,
    )
