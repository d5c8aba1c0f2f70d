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
    in_state,
    refresh_token_end,
)
from refresher.domain.clients import Client, RotationProfile
from refresher.domain.grants import (
    Claim,
    Grant,
    GrantKind,
    GrantState,
    Intent,
    RawAnswer,
    Reason,
    TokenSet,
)
from refresher.domain.outcomes import (
    AnswerUnread,
    ClientRejected,
    GrantRejected,
    Misconfigured,
    NotSent,
    Outcome,
    OutcomeUnknown,
    Refreshed,
    RefreshTokenOnly,
    RequestRejected,
    TokenAnswer,
    TooEarly,
    Transient,
)

REQUEST_REJECTIONS = 3
"""``invalid_request`` this often in a row is permanent (Hydra says it in passing)."""


def transition(claim: Claim, client: Client, outcome: Outcome, attempt: Attempt) -> Transition:
    """Apply OUTCOME of the exchange CLAIM allowed."""
    grant = claim.grant
    match outcome:
        case Refreshed(answer=answer):
            return adopt_refresh(claim, client, answer, attempt)
        case RefreshTokenOnly(answer=answer):
            return _refresh_token_alone(grant, answer, attempt)
        case NotSent():
            return Transition(grant=_unprocessed(grant, client, attempt, None))
        case TooEarly():
            return Transition(grant=_unprocessed(grant, client, attempt, None))
        case Transient(retry_after=retry_after):
            return Transition(grant=_unprocessed(grant, client, attempt, retry_after))
        case OutcomeUnknown() | AnswerUnread():
            return _unresolved(grant, client, outcome, attempt)
        case GrantRejected(error=error):
            return Transition(grant=_rejected(claim, client, error, attempt))
        case ClientRejected(error=error):
            return Transition(grant=_blocked(grant, Reason.CLIENT_REJECTED, error, attempt))
        case Misconfigured(error=error):
            return Transition(grant=_blocked(grant, Reason.MISCONFIGURED, error, attempt))
        case RequestRejected(error=error):
            if grant.failures + 1 < REQUEST_REJECTIONS:
                return Transition(grant=_unprocessed(grant, client, attempt, None))
            return Transition(grant=_blocked(grant, Reason.MISCONFIGURED, error, attempt))
        case _:
            assert_never(outcome)


def held_back(claim: Claim) -> Transition:
    """Nothing was sent, and nothing failed: the grant is as due as it was."""
    return Transition(grant=replace(claim.grant, intent=claim.intent.without_one))


def after_bug(claim: Claim, now: float) -> Transition:
    """Look again in a while, the exchange still open: for when a rule itself is broken."""
    grant = claim.grant
    due_at = now + schedule.LONGEST_RETRY
    return Transition(grant=replace(grant, due_at=due_at, failures=grant.failures + 1))


def state_by_time(grant: Grant, now: float) -> GrantState:
    """The state that follows from the clock alone, for a grant that is still worked on."""
    if grant.issued_at is None:
        return GrantState.PENDING
    if grant.expires_at is not None and grant.expires_at <= now:
        return GrantState.EXPIRED
    if grant.status_reason in {Reason.CLIENT_REJECTED, Reason.MISCONFIGURED}:
        return GrantState.DEGRADED
    near_end = grant.expires_at is not None and grant.expires_at - now < schedule.mandatory_window(
        grant.lifetime
    )
    return GrantState.DEGRADED if near_end and grant.failures else GrantState.FRESH


def pass_time(grant: Grant, now: float) -> Grant:
    """GRANT as the clock alone has left it: degraded, expired, or in need of a person."""
    if grant.state not in {GrantState.FRESH, GrantState.DEGRADED}:
        return grant
    ended = grant.expires_at is not None and grant.expires_at <= now
    if ended and grant.kind is GrantKind.STATIC:
        return in_state(grant, GrantState.REAUTHORIZATION_REQUIRED, Reason.TOKEN_ENDED, now)
    if ended and grant.refresh_token_fingerprint is None:
        return in_state(grant, GrantState.REAUTHORIZATION_REQUIRED, Reason.NO_REFRESH_TOKEN, now)
    return in_state(grant, state_by_time(grant, now), grant.reason, now)


def _refresh_token_alone(grant: Grant, answer: TokenAnswer, attempt: Attempt) -> Transition:
    """The refresh token is adopted; an access token has still to be asked for."""
    tokens = TokenSet(
        access_token=None,
        refresh_token=answer.refresh_token,
        refresh_token_expires_at=refresh_token_end(answer, attempt.sent_at),
    )
    after = replace(
        _failed(grant, attempt, None),
        intent=None,
        refresh_token_expires_at=tokens.refresh_token_expires_at or grant.refresh_token_expires_at,
    )
    return Transition(grant=after, tokens=tokens, warnings=answer.warnings)


def _unprocessed(
    grant: Grant, client: Client, attempt: Attempt, retry_after: float | None
) -> Grant:
    """This attempt did nothing; what earlier ones did may still be open."""
    after = _failed(grant, attempt, retry_after)
    intent = grant.intent and grant.intent.without_one
    after = replace(after, intent=intent)
    if grant.intent is None or intent is None:
        return after
    # Promptness is for the first replay: one that reaches nobody must not become a hot loop.
    paced = replace(intent, attempts=max(grant.intent.attempts, after.failures))
    return _scheduled_replay(after, client, paced, attempt, retry_after)


def _unknown(grant: Grant, client: Client, attempt: Attempt, retry_after: float | None) -> Grant:
    assert grant.intent is not None
    after = _failed(grant, attempt, retry_after)
    return _scheduled_replay(after, client, grant.intent, attempt, retry_after)


def _unresolved(
    grant: Grant, client: Client, outcome: OutcomeUnknown | AnswerUnread, attempt: Attempt
) -> Transition:
    """Nobody knows what was spent; what came and was not understood is kept."""
    kept = None
    if outcome.status is not None and outcome.body is not None:
        kept = RawAnswer(status=outcome.status, body=outcome.body, sent_at=attempt.sent_at)
    if isinstance(outcome, AnswerUnread) and outcome.may_hold_tokens:
        return Transition(grant=_waiting_to_be_read(grant, attempt), kept=kept)
    retry_after = outcome.retry_after if isinstance(outcome, OutcomeUnknown) else None
    return Transition(grant=_unknown(grant, client, attempt, retry_after), kept=kept)


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
    """Schedule a grant whose exchange a dead process left open: recovery is the same rule."""
    assert grant.intent is not None
    attempt = Attempt(sent_at=grant.intent.first_sent_at, ended_at=now, draw=draw)
    return _unknown(grant, client, attempt, None)


def _scheduled_replay(
    after: Grant, client: Client, intent: Intent, attempt: Attempt, retry_after: float | None
) -> Grant:
    assert after.due_at is not None
    replay = schedule.replay_at(
        attempt.ended_at,
        intent,
        client.rotation,
        client.on_unknown_outcome,
        after.due_at,
        expires_at=after.expires_at,
        lifetime=after.lifetime,
    )
    if replay is None:
        return in_state(
            replace(after, due_at=None),
            GrantState.PAUSED,
            Reason.OUTCOME_UNKNOWN,
            attempt.ended_at,
        )
    earliest = attempt.ended_at + schedule.capped_retry_after(retry_after)
    last = schedule.last_replay_at(intent.first_sent_at, client.rotation)
    if replay <= last < earliest:
        # Later nobody can fetch what an answer that was lost had brought: losing nothing
        # comes before the server's wish for quiet, for this one request.
        earliest = last
    return replace(after, due_at=max(replay, earliest))


def _rejected(claim: Claim, client: Client, error: str, attempt: Attempt) -> Grant:
    """The refresh token is dead, unless it never rotates and this is the first such word."""
    grant = claim.grant
    rotates = client.rotation.profile is not RotationProfile.NONE
    first = grant.status_reason != Reason.REVOKED
    if not rotates and first:
        wait = max(schedule.REJECTION_CONFIRMATION, 60.0 * (1 + attempt.draw))
        after = replace(
            grant, due_at=attempt.ended_at + wait, failures=grant.failures + 1, intent=None
        )
        state = state_by_time(after, attempt.ended_at)
        return in_state(after, state, f"{Reason.REVOKED}:{error}", attempt.ended_at)
    reason = Reason.REVOKED
    if rotates and claim.intent.is_replay:
        reason = Reason.ROTATION_LOST
    elif rotates and claim.is_of_copy:
        reason = Reason.RESTORED_COPY
    return in_state(
        replace(grant, due_at=None, intent=None, failures=grant.failures + 1),
        GrantState.REAUTHORIZATION_REQUIRED,
        f"{reason}:{error}",
        attempt.ended_at,
    )


def _blocked(grant: Grant, reason: str, error: str, attempt: Attempt) -> Grant:
    """Nothing the grant can help: keep it, look again every 5 to 15 minutes."""
    wait = schedule.CLIENT_PROBE * (1 + 2 * attempt.draw)
    after = replace(
        grant,
        due_at=attempt.ended_at + wait,
        failures=grant.failures + 1,
        intent=grant.intent and grant.intent.without_one,
        reason=f"{reason}:{error}",
    )
    state = state_by_time(after, attempt.ended_at)
    return in_state(
        replace(after, reason=grant.reason), state, f"{reason}:{error}", attempt.ended_at
    )


def _failed(grant: Grant, attempt: Attempt, retry_after: float | None) -> Grant:
    failures = grant.failures + 1
    due_at = schedule.retry_at(
        attempt.ended_at,
        failures,
        attempt.draw,
        expires_at=grant.expires_at,
        lifetime=grant.lifetime,
        retry_after=retry_after,
    )
    after = replace(grant, failures=failures, due_at=due_at, reason=None)
    return in_state(
        replace(after, reason=grant.reason),
        state_by_time(after, attempt.ended_at),
        None,
        attempt.ended_at,
    )
