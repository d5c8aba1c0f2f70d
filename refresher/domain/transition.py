"""What each outcome does to a grant: the transition grant x outcome -> grant.

Pure. The vault applies the result under its commit rule; nothing here decides whether
an outcome still counts.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from refresher.domain import schedule
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
    Transient,
)

REQUEST_REJECTIONS = 3
"""``invalid_request`` this often in a row is permanent (Hydra says it in passing)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """The grant as it should be after the outcome, and what came with it."""

    grant: Grant
    tokens: TokenSet | None = None
    """What to adopt; None when no token came."""
    kept: RawAnswer | None = None
    """An answer nobody understood, to be sealed and kept beside the grant."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """When one exchange happened, and the chance drawn for what follows it."""

    sent_at: float
    """Just before the request; expiry counts from here."""
    ended_at: float
    draw: float


def transition(claim: Claim, client: Client, outcome: Outcome, attempt: Attempt) -> Transition:
    """Apply OUTCOME of the exchange CLAIM allowed."""
    grant = claim.grant
    match outcome:
        case Refreshed(answer=answer):
            return _refreshed(claim, client, answer, attempt)
        case RefreshTokenOnly(answer=answer):
            return _refresh_token_alone(grant, answer, attempt)
        case NotSent():
            return Transition(grant=_unprocessed(grant, client, attempt, None))
        case Transient(retry_after=retry_after):
            return Transition(grant=_unprocessed(grant, client, attempt, retry_after))
        case OutcomeUnknown() | AnswerUnread():
            return _unresolved(grant, client, outcome, attempt)
        case GrantRejected(error=error):
            return Transition(grant=_rejected(grant, client, error, attempt))
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


def after_bug(claim: Claim, now: float) -> Transition:
    """Look again in a while, the exchange still open: for when a rule itself is broken."""
    grant = claim.grant
    due_at = now + schedule.LONGEST_RETRY
    return Transition(grant=replace(grant, due_at=due_at, failures=grant.failures + 1))


def adopt_authorization(
    grant: Grant, client: Client, answer: TokenAnswer, attempt: Attempt
) -> Transition:
    """Put the first tokens of a new authorization (a login) into GRANT."""
    tokens, warnings = read_tokens(client, answer, attempt.sent_at)
    after = replace(
        grant,
        failures=0,
        intent=None,
        authorization_serial=grant.authorization_serial + 1,
        refresh_token_expires_at=None,
    )
    if answer.refresh_token is None:
        after = replace(after, refresh_token_fingerprint=None, predecessor_fingerprint=None)
    return Transition(
        grant=_with_token(
            after, client, tokens, answer, attempt, has_refresh=answer.refresh_token is not None
        ),
        tokens=tokens,
        warnings=warnings,
    )


def read_tokens(
    client: Client, answer: TokenAnswer, counted_from: float
) -> tuple[TokenSet, tuple[str, ...]]:
    """The token set of ANSWER, its lifetime counted from COUNTED_FROM, and warnings."""
    warnings = answer.warnings
    lifetime = answer.expires_in
    if lifetime is None:
        lifetime = client.default_expires_in or schedule.DEFAULT_EXPIRES_IN
        if client.default_expires_in is None:
            warnings = (*warnings, f"no usable expires_in: assuming {lifetime:.0f} s")
    tokens = TokenSet(
        access_token=answer.access_token,
        refresh_token=answer.refresh_token,
        token_type=answer.token_type,
        scope=answer.scope,
        issued_at=counted_from,
        expires_at=counted_from + lifetime,
        refresh_token_expires_at=_refresh_token_end(answer, counted_from),
        extras=answer.extras,
    )
    return tokens, warnings


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
        return _in_state(grant, GrantState.REAUTHORIZATION_REQUIRED, Reason.TOKEN_ENDED, now)
    if ended and grant.refresh_token_fingerprint is None:
        return _in_state(grant, GrantState.REAUTHORIZATION_REQUIRED, Reason.NO_REFRESH_TOKEN, now)
    return _in_state(grant, state_by_time(grant, now), grant.reason, now)


def _refreshed(claim: Claim, client: Client, answer: TokenAnswer, attempt: Attempt) -> Transition:
    """A new access token: expiry counts from the first send where a replay may be an echo."""
    grant, intent = claim.grant, claim.intent
    echoes = client.rotation.profile in {RotationProfile.GRACE, RotationProfile.UNTIL_USED}
    counted_from = intent.first_sent_at if intent.is_replay and echoes else attempt.sent_at
    tokens, warnings = read_tokens(client, answer, counted_from)
    after = _with_token(
        replace(grant, failures=0, intent=None), client, tokens, answer, attempt, has_refresh=True
    )
    stale = (
        answer.access_token == claim.access_token
        and grant.expires_at is not None
        and tokens.expires_at is not None
        and tokens.expires_at <= grant.expires_at + 1
    )
    if stale and tokens.expires_at is not None:
        remaining = max(tokens.expires_at - attempt.ended_at, 0.0)
        wait = max(schedule.request_interval(after.lifetime), remaining / 2)
        wait = min(wait, max(remaining, schedule.SHORTEST_INTERVAL))
        after = replace(after, due_at=attempt.ended_at + wait, reason=Reason.NO_PROGRESS)
        warnings = (*warnings, "the same access token came back: no progress")
    return Transition(grant=after, tokens=tokens, warnings=warnings)


def _refresh_token_alone(grant: Grant, answer: TokenAnswer, attempt: Attempt) -> Transition:
    """The refresh token is adopted; an access token has still to be asked for."""
    tokens = TokenSet(
        access_token=None,
        refresh_token=answer.refresh_token,
        refresh_token_expires_at=_refresh_token_end(answer, attempt.sent_at),
    )
    after = replace(
        _failed(grant, attempt, None),
        intent=None,
        refresh_token_expires_at=tokens.refresh_token_expires_at or grant.refresh_token_expires_at,
    )
    return Transition(grant=after, tokens=tokens, warnings=answer.warnings)


def _with_token(
    grant: Grant,
    client: Client,
    tokens: TokenSet,
    answer: TokenAnswer,
    attempt: Attempt,
    *,
    has_refresh: bool,
) -> Grant:
    assert tokens.issued_at is not None
    assert tokens.expires_at is not None
    due_at: float | None = None
    if has_refresh:
        due_at = schedule.refresh_at(
            tokens.issued_at,
            tokens.expires_at,
            attempt.draw,
            survive_outage=client.survive_outage,
            refresh_in=answer.refresh_in,
        )
        # From the issue, not from now: an echo of an earlier answer may be as good as over.
        floor = tokens.issued_at + schedule.floor_between(tokens.expires_at - tokens.issued_at)
        due_at = max(due_at, floor, attempt.ended_at + schedule.SHORTEST_INTERVAL)
        if client.refresh_token_idle is not None:
            due_at = min(due_at, attempt.ended_at + client.refresh_token_idle / 2)
    reason = None if has_refresh else Reason.NO_REFRESH_TOKEN
    return _in_state(
        replace(
            grant,
            issued_at=tokens.issued_at,
            expires_at=tokens.expires_at,
            due_at=due_at,
            refresh_token_expires_at=tokens.refresh_token_expires_at
            or grant.refresh_token_expires_at,
        ),
        GrantState.FRESH if tokens.expires_at > attempt.ended_at else GrantState.EXPIRED,
        reason,
        attempt.ended_at,
    )


def _unprocessed(
    grant: Grant, client: Client, attempt: Attempt, retry_after: float | None
) -> Grant:
    """This attempt did nothing; what earlier ones did may still be open."""
    after = _failed(grant, attempt, retry_after)
    intent = _without_latest(grant.intent)
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
        return _in_state(
            replace(after, due_at=None),
            GrantState.PAUSED,
            Reason.OUTCOME_UNKNOWN,
            attempt.ended_at,
        )
    earliest = attempt.ended_at + schedule.capped_retry_after(retry_after)
    return replace(after, due_at=max(replay, earliest))


def _rejected(grant: Grant, client: Client, error: str, attempt: Attempt) -> Grant:
    """The refresh token is dead, unless it never rotates and this is the first such word."""
    rotates = client.rotation.profile is not RotationProfile.NONE
    first = grant.status_reason != Reason.REVOKED
    if not rotates and first:
        wait = max(schedule.REJECTION_CONFIRMATION, 60.0 * (1 + attempt.draw))
        after = replace(
            grant, due_at=attempt.ended_at + wait, failures=grant.failures + 1, intent=None
        )
        state = state_by_time(after, attempt.ended_at)
        return _in_state(after, state, f"{Reason.REVOKED}:{error}", attempt.ended_at)
    ambiguous = rotates and grant.intent is not None and grant.intent.is_replay
    reason = Reason.ROTATION_LOST if ambiguous else Reason.REVOKED
    return _in_state(
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
        intent=_without_latest(grant.intent),
        reason=f"{reason}:{error}",
    )
    state = state_by_time(after, attempt.ended_at)
    return _in_state(
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
    return _in_state(
        replace(after, reason=grant.reason),
        state_by_time(after, attempt.ended_at),
        None,
        attempt.ended_at,
    )


def _in_state(grant: Grant, state: GrantState, reason: str | None, now: float) -> Grant:
    """Enter STATE for REASON; ``since`` moves only when the state does."""
    since = grant.since if state is grant.state else now
    return replace(grant, state=state, reason=reason, since=since)


def _without_latest(intent: Intent | None) -> Intent | None:
    """The intent once its latest attempt is known not to have been processed."""
    if intent is None or intent.attempts <= 1:
        return None
    return replace(intent, attempts=intent.attempts - 1)


def _refresh_token_end(answer: TokenAnswer, counted_from: float) -> float | None:
    if answer.refresh_token_expires_in is None:
        return None
    return counted_from + answer.refresh_token_expires_in
