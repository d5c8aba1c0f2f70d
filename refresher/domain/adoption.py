"""What new tokens do to a grant: when they end, when the next ones are due.

Pure, like the transition that they are a part of. An expiry counts from the sending.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from refresher.domain import schedule
from refresher.domain.clients import Client, RotationProfile
from refresher.domain.grants import INSTANTS, Claim, Fault, Grant, GrantState, RawAnswer, TokenSet
from refresher.domain.outcomes import TokenAnswer
from refresher.domain.reasons import Reason


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

    def moved(self, claimed: Grant, offset: float) -> "Transition":
        """With every instant that the outcome brought OFFSET seconds later.

        Those of CLAIMED that it left alone are the commit rule's to bring up to date.
        """
        if offset == 0:
            return self
        names = (*INSTANTS, "due_at")
        grant = replace(self.grant, **_moved(self.grant, names, offset, unless=claimed))
        tokens = self.tokens
        if tokens is not None:
            ends = ("issued_at", "expires_at", "refresh_token_expires_at")
            tokens = replace(tokens, **_moved(tokens, ends, offset))
        return replace(self, grant=grant, tokens=tokens)


def _moved(
    holder: object, names: Sequence[str], offset: float, unless: Grant | None = None
) -> dict[str, Any]:
    found = {name: getattr(holder, name) for name in names}
    return {
        name: instant + offset
        for name, instant in found.items()
        if instant is not None and (unless is None or instant != getattr(unless, name))
    }


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
        refresh_token_expires_at=refresh_token_end(answer, counted_from),
        extras=answer.extras,
    )
    return tokens, warnings


def adopt_refresh(
    claim: Claim, client: Client, answer: TokenAnswer, attempt: Attempt
) -> Transition:
    """A new access token: expiry counts from the first send where a replay may be an echo."""
    grant, intent = claim.grant, claim.intent
    echoes = client.rotation.profile in {RotationProfile.GRACE, RotationProfile.UNTIL_USED}
    counted_from = attempt.sent_at
    if intent.is_replay and echoes:
        counted_from = min(intent.first_sent_at, attempt.sent_at)
    tokens, warnings = read_tokens(client, answer, counted_from)
    after = _with_token(
        replace(grant, failures=0, intent=None), client, tokens, answer, attempt, has_refresh=True
    )
    if (lost := _lost_scope(claim, tokens)) > 0:
        warnings = (*warnings, f"the scope narrowed: {lost} of its values are gone")
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


def _lost_scope(claim: Claim, tokens: TokenSet) -> int:
    """How many scope values the token before had and these have not (FAILURES 59)."""
    if tokens.scope is None:
        return 0
    return len(set(claim.granted_scope.split()) - set(tokens.scope.split()))


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
    is_over = tokens.expires_at <= attempt.ended_at
    reason = Reason.AWAITING_REFRESH if is_over else None
    if not has_refresh:
        reason = Reason.NO_REFRESH_TOKEN
    return in_state(
        replace(
            grant,
            issued_at=tokens.issued_at,
            expires_at=tokens.expires_at,
            due_at=due_at,
            failing_since=None,
            fault=None,
            served_at=attempt.ended_at,
            refused_at=None,
            refusals=0,
            early_refusals=0,
            refresh_token_expires_at=tokens.refresh_token_expires_at
            or grant.refresh_token_expires_at,
        ),
        GrantState.EXPIRED if is_over else GrantState.FRESH,
        reason,
        attempt.ended_at,
    )


def in_state(grant: Grant, state: GrantState, reason: str | None, now: float) -> Grant:
    """Enter STATE for REASON; ``since`` moves only when the state does."""
    since = grant.since if state is grant.state else now
    return replace(grant, state=state, reason=reason, since=since)


def refresh_token_end(answer: TokenAnswer, counted_from: float) -> float | None:
    """When the refresh token of ANSWER ends, if the server tells."""
    if answer.refresh_token_expires_in is None:
        return None
    return counted_from + answer.refresh_token_expires_in
