"""What new tokens do to a grant: when they end, when the next ones are due.

Pure, like the transition that they are a part of. A duration counts from the sending, of the
first attempt where the answer may be an echo; an end that the answer tells as an instant is
true whatever the attempt.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from refresher.domain import schedule
from refresher.domain.clients import Client
from refresher.domain.endings import before_end, known_end, with_end
from refresher.domain.grants import Claim, Fault, Grant, GrantState, TokenSet
from refresher.domain.outcomes import TokenAnswer
from refresher.domain.quirks import RotationProfile
from refresher.domain.reasons import Reason, worded
from refresher.domain.unread import RawAnswer

PROCESSED_WITHIN = 90.0
"""Seconds after its sending in which a request may still be at work at the server."""

SHORTEST_WINDOW = 10.0
SHARE_OF_WINDOW = 0.1
"""A window that is learned leaves at least so many seconds, and this share of a life, to
refresh in: a refusal too many costs less than a token too late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """The grant as it should be after the outcome, and what came with it."""

    grant: Grant
    tokens: TokenSet | None = None
    """What to adopt; None when no token came."""
    kept: RawAnswer | None = None
    """An answer nobody understood, to be sealed and kept beside the grant."""
    restores_predecessor: bool = False
    """The refresh token on probation is refused: the vault puts its predecessor back."""
    warnings: tuple[str, ...] = ()

    def moved(self, offset: float) -> "Transition":
        """With every instant OFFSET seconds later: the clock was set since it was judged."""
        if offset == 0:
            return self
        tokens = None if self.tokens is None else self.tokens.moved(offset)
        return replace(self, grant=self.grant.moved(offset), tokens=tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """When one exchange happened, and the chance drawn for what follows it."""

    sent_at: float
    """Just before the request; expiry counts from here."""
    ended_at: float
    draw: float
    fault: Fault | None = None
    """Whose a failure was, judged by what happens to other grants at the same time; None
    leaves it to what the outcome alone can tell."""


def adopt_authorization(
    grant: Grant, client: Client, answer: TokenAnswer, attempt: Attempt
) -> Transition:
    """Put the first tokens of a new authorization (a login) into GRANT."""
    exchanges = bool(client.quirks.exchange_grant_type)
    if exchanges:  # what the client says of lives is about the token that this one is exchanged for
        short = replace(client.quirks, default_expires_in=schedule.DEFAULT_EXPIRES_IN)
        tokens, warnings = read_tokens(grant, replace(client, quirks=short), answer, attempt)
    else:
        tokens, warnings = read_tokens(grant, client, answer, attempt)
    owner = answer.resource_owner
    after = replace(
        served(grant, attempt),
        authorization_serial=grant.authorization_serial + 1,
        refresh_token_expires_at=None,
        authorized_at=attempt.sent_at,
        end_warning_at=None,
        end_announced=None,
        authorized_by=None if owner is None else owner.name,
        authorized_subject=None if owner is None else owner.subject,
    )
    if answer.refresh_token is None:
        after = replace(after, refresh_token_fingerprint=None, predecessor_fingerprint=None)
    has_refresh = answer.refresh_token is not None
    after = _with_token(after, client, tokens, answer, attempt, has_refresh=has_refresh)
    if exchanges and has_refresh:
        after = replace(after, due_at=attempt.ended_at)
    return Transition(grant=after, tokens=tokens, warnings=warnings)


def served(grant: Grant, attempt: Attempt, **more: Any) -> Grant:
    """GRANT once the server has brought an access token: whatever failed before is over.

    An interval between the requests of consumers that had grown halves with each life that
    nobody rejected, and their last word was about the token before.
    """
    interval, rejection = grant.request_interval, grant.rejection
    was_rejected = rejection is not None and rejection.version >= grant.version
    if interval is not None and not was_rejected:
        halved = interval / 2
        interval = halved if halved > schedule.request_interval(grant.lifetime) else None
    return grant.but(
        request_interval=interval,
        rejection=None,
        intent=None,
        failures=0,
        fault=None,
        failing_since=None,
        served_at=attempt.ended_at,
        refused_at=None,
        refusals=0,
        early_refusals=0,
        **more,
    )


def read_tokens(
    grant: Grant,
    client: Client,
    answer: TokenAnswer,
    attempt: Attempt,
    *,
    made_at: float | None = None,
) -> tuple[TokenSet, tuple[str, ...]]:
    """The token set of ANSWER, and warnings.

    Args:
        grant: as it was: an answer that tells no end is taken to be like the one before.
        made_at: when the answer may have been made at the earliest, if it may be the echo of
            an earlier one: its duration counts from there.
    """
    counted_from = attempt.sent_at if made_at is None else made_at
    lifetime, warnings = answer.expires_in, answer.warnings
    if lifetime is None and client.quirks.no_expiry:
        return _token_set(client, answer, counted_from, counted_from, None), warnings
    if lifetime is None:
        lifetime = assumed_lifetime(grant, client)
        if lifetime is None:
            lifetime = schedule.DEFAULT_EXPIRES_IN
            warnings = (*warnings, f"no usable expires_in: assuming {lifetime:.0f} s")
    issued_at, expires_at = counted_from, counted_from + lifetime
    if answer.ends_in is not None:
        told = attempt.sent_at + answer.ends_in
        if expires_at <= attempt.ended_at:  # as an echo it would be over
            expires_at = min(told, attempt.sent_at + lifetime)
            issued_at = attempt.sent_at - (answer.since_issue or 0.0)
        elif told < expires_at or answer.ends_in <= lifetime:
            expires_at, issued_at = told, attempt.sent_at
    return _token_set(client, answer, counted_from, issued_at, expires_at), warnings


def _token_set(
    client: Client,
    answer: TokenAnswer,
    counted_from: float,
    issued_at: float,
    expires_at: float | None,
) -> TokenSet:
    ends_at = refresh_token_end(answer, counted_from)
    if client.quirks.renews_with_access_token:
        ends_at = expires_at
    return TokenSet(
        access_token=answer.access_token,
        refresh_token=answer.refresh_token,
        token_type=answer.token_type,
        scope=answer.scope,
        issued_at=issued_at,
        expires_at=expires_at,
        refresh_token_expires_at=ends_at,
        extras=answer.extras,
    )


def assumed_lifetime(grant: Grant, client: Client) -> float | None:
    """The life of a token that comes without an end; None where nothing is known of it.

    It is that of the token before, so that an end told once counts until another is told.
    The client's default bounds it: what was itself assumed must not outlive a setting that
    was made to correct it.
    """
    lives = (grant.lifetime, client.quirks.default_expires_in)
    return min((life for life in lives if life is not None), default=None)


def adopt_refresh(
    claim: Claim, client: Client, answer: TokenAnswer, attempt: Attempt
) -> Transition:
    """A new access token, dated by the first send where a replay may have brought an echo."""
    grant = claim.grant
    made_at = _echo_of(claim, client, attempt)
    tokens, warnings = read_tokens(grant, client, answer, attempt, made_at=made_at)
    if claim.extras:
        tokens = replace(tokens, extras=_kept_extras(claim, client) | dict(tokens.extras))
    is_same = answer.access_token == claim.access_token
    window = grant.refresh_window if is_same else learned_window(grant, attempt)
    after = served(grant, attempt, refresh_window=window)
    after = _with_token(after, client, tokens, answer, attempt, has_refresh=True)
    stale = (
        is_same
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


def _kept_extras(claim: Claim, client: Client) -> dict[str, str]:
    """What was published beside the token before and is asked for still."""
    asked = {*client.quirks.extras, *client.quirks.callback_extras}
    return {name: value for name, value in claim.extras.items() if name in asked}


def _echo_of(claim: Claim, client: Client, attempt: Attempt) -> float | None:
    """When the answer may have been made at the earliest; None where it is of this attempt.

    Under ``grace(N)`` a server that repeats an answer made it within N before. That counts
    from the attempt which reached it, not from the first: when the first request was lost on
    the way and the answer to a second one too, a third can bring an echo later than N after
    the first. Only where the first is the only one before, and over for long, none is possible.

    Example for ``grace(30)``: sent at second 0, answered and lost; replayed at second 20. The
    server may repeat its answer of second 0, "expires in 60" included. That token ends at
    second 60, not at 80, so its life counts from second 0.
    """
    intent, rotation = claim.intent, client.quirks.rotation
    age = attempt.sent_at - intent.first_sent_at
    if not intent.is_replay or age < 0:
        return None
    match rotation.profile:
        case RotationProfile.UNTIL_USED:
            return intent.first_sent_at
        case RotationProfile.GRACE:
            is_first_alone = intent.attempts == 2  # noqa: PLR2004  that one and this
            if is_first_alone and age > rotation.grace + PROCESSED_WITHIN:
                return None
            return max(intent.first_sent_at, attempt.sent_at - rotation.grace)
        case RotationProfile.NONE | RotationProfile.STRICT | RotationProfile.UNKNOWN:
            return None


def learned_window(grant: Grant, attempt: Attempt) -> float | None:
    """Seconds before the end of a token in which the server refreshes GRANT, as known now.

    Refused for being too early and then served, it is what was left when it was served. A
    server that serves GRANT earlier than that has changed its mind.
    """
    if grant.expires_at is None or grant.lifetime is None:
        return grant.refresh_window
    left = grant.expires_at - attempt.sent_at
    if grant.early_refusals > 0:
        return max(SHORTEST_WINDOW, SHARE_OF_WINDOW * grant.lifetime, math.ceil(left))
    known = grant.refresh_window
    return None if known is not None and left > known else known


def _with_token(
    grant: Grant,
    client: Client,
    tokens: TokenSet,
    answer: TokenAnswer,
    attempt: Attempt,
    *,
    has_refresh: bool,
) -> Grant:
    end = due_at = None
    if has_refresh:
        end = end_of_refresh_token(grant, client, tokens.refresh_token_expires_at)
        due_at = _due_at(grant, client, tokens, answer, attempt, end=end)
    is_over = tokens.expires_at is not None and tokens.expires_at <= attempt.ended_at
    reason = Reason.AWAITING_REFRESH if is_over else _narrowed(grant, client, tokens)
    if not has_refresh:
        reason = Reason.NO_REFRESH_TOKEN
    state = GrantState.EXPIRED if is_over else GrantState.FRESH
    after = grant.but(
        state=state,
        reason=reason,
        since=grant.since if state is grant.state else attempt.ended_at,
        issued_at=tokens.issued_at,
        expires_at=tokens.expires_at,
        due_at=due_at,
    )
    is_prolonged = client.quirks.renews_with_access_token
    return with_end(after, end, attempt.ended_at, is_prolonged=is_prolonged)


def _due_at(
    grant: Grant,
    client: Client,
    tokens: TokenSet,
    answer: TokenAnswer,
    attempt: Attempt,
    *,
    end: float | None,
) -> float | None:
    """When to refresh TOKENS; None for what neither ends nor has to be kept alive.

    Args:
        end: of the refresh token, where it is known.
    """
    idle, now = client.quirks.refresh_token_idle, attempt.ended_at
    if tokens.expires_at is None or tokens.issued_at is None:
        due_at = before_end(schedule.kept_alive(math.inf, now, idle), end, now)
        return due_at if math.isfinite(due_at) else None
    due_at = schedule.refresh_at(
        tokens.issued_at,
        tokens.expires_at,
        attempt.draw,
        survive_outage=client.policy.survive_outage,
        refresh_in=answer.refresh_in,
    )
    # From the issue, not from now: an echo of an earlier answer may be as good as over.
    floor = tokens.issued_at + schedule.floor_between(tokens.expires_at - tokens.issued_at)
    due_at = max(due_at, floor, now + schedule.SHORTEST_INTERVAL)
    due_at = max(due_at, _opening(grant, client, tokens.expires_at, attempt.draw))
    return before_end(schedule.kept_alive(due_at, now, idle), end, now)


def with_learned_end(
    grant: Grant, client: Client, ends_at: float, now: float, draw: float
) -> Grant:
    """GRANT, whose server has told NOW that its access token ends at ENDS_AT."""
    tokens = TokenSet(
        access_token=None, refresh_token=None, issued_at=grant.issued_at, expires_at=ends_at
    )
    answer = TokenAnswer(access_token=None, refresh_token=None)
    attempt = Attempt(sent_at=now, ended_at=now, draw=draw)
    end = grant.refresh_token_expires_at
    due_at = _due_at(grant, client, tokens, answer, attempt, end=end)
    return replace(grant, expires_at=ends_at, due_at=due_at if grant.is_renewable else None)


def _narrowed(grant: Grant, client: Client, tokens: TokenSet) -> str | None:
    """The reason that names what was asked for at the login and not granted, if anything."""
    if tokens.scope is None:  # as it was (RFC 6749 5.1)
        return grant.reason if grant.status_reason == Reason.SCOPE_NARROWED else None
    asked = grant.scope or client.scope
    missing = [value for value in asked if value not in tokens.scope.split()]
    return worded(Reason.SCOPE_NARROWED, ",".join(missing)) if missing else None


def _opening(grant: Grant, client: Client, expires_at: float, draw: float) -> float:
    """When to refresh at the earliest where a server refuses what is too early for it.

    A little inside the window, so that the clocks need not agree to the second, and early in
    it, so that there is room for retries.
    """
    windows = [w for w in (grant.refresh_window, client.quirks.refresh_window) if w is not None]
    if not windows:
        return -math.inf
    return expires_at - min(windows) * (0.9 - 0.2 * draw)


def in_state(grant: Grant, state: GrantState, reason: str | None, now: float) -> Grant:
    """Enter STATE for REASON; ``since`` moves only when the state does."""
    since = grant.since if state is grant.state else now
    return replace(grant, state=state, reason=reason, since=since)


def end_of_refresh_token(grant: Grant, client: Client, told: float | None) -> float | None:
    """When the refresh token of GRANT ends, its server having TOLD so just now, or before."""
    told = told or grant.refresh_token_expires_at
    return known_end(told, grant.authorized_at, client.quirks.refresh_token_absolute)


def refresh_token_end(answer: TokenAnswer, counted_from: float) -> float | None:
    """When the refresh token of ANSWER ends, if the server tells."""
    if answer.refresh_token_expires_in is None:
        return None
    return counted_from + answer.refresh_token_expires_in
