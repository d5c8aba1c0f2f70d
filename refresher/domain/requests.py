"""What a consumer may ask for: that the access token it was refused with be replaced.

Pure. A rejection brings a refresh forward and does nothing else: it never decides for an
operator, never sends a refresh token whose last exchange is open, and never shortens a wait
that the server or its refusal has made. What becomes of it is written beside the grant and
published, so that whoever asked reads why nothing happens, and until when.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from refresher.domain import schedule
from refresher.domain.adoption import in_state
from refresher.domain.grants import Answer, Grant, GrantKind, GrantState, Rejection
from refresher.domain.reasons import Reason

YOUNG = 0.25
"""Share of its life below which a rejected token tells that refreshing does not help."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """What consumers said of one grant, however many they were."""

    versions: frozenset[int]
    reason: str = ""
    """Why, in one consumer's word; of ``[a-z0-9_]`` alone."""
    earlier_life: int | None = None
    """Version of the token that Redis still shows of an earlier life of the vault."""


def current_of(grant: Grant, rejected: Rejected) -> int | None:
    """The version among REJECTED that consumers of GRANT can read now; None: all are outdated.

    One above the vault's was made by no vault, unless an earlier life of it was seen.
    """
    if grant.version > 0 and grant.version in rejected.versions:
        return grant.version
    earlier = rejected.earlier_life
    is_readable = earlier is not None and earlier > grant.version
    return earlier if is_readable and earlier in rejected.versions else None


def is_ahead(grant: Grant, versions: Collection[int]) -> bool:
    """Whether one of VERSIONS may be of an earlier life of the vault of GRANT."""
    return max(versions) > grant.version


def answered(grant: Grant, version: int, now: float) -> Grant:
    """GRANT after consumers have rejected VERSION, its current one; equal if that changes nothing.

    Asking again about the same version changes nothing while the first answer stands, so
    requests may be read twice.
    """
    held = _held(grant)
    if held is not None:
        answer, until = held
        after = replace(grant, rejection=Rejection(version, answer, until))
        return _lost(after, now) if answer is Answer.PERSON_NEEDED else after
    if _stands(grant, version, now):
        return grant
    interval = schedule.request_interval(grant.lifetime)
    if grant.request_interval is not None:
        grown = 2 * grant.request_interval if _is_young(grant, now) else grant.request_interval
        interval = max(interval, min(grown, (grant.lifetime or 0.0) / 2))
    at = _free_at(grant, now)
    answer = Answer.ACCEPTED if at <= now else Answer.DEFERRED
    at = at if grant.due_at is None else min(at, grant.due_at)
    return replace(
        grant,
        due_at=at,
        requested_at=max(at, now),
        request_interval=interval,
        rejection=Rejection(version, answer, at),
    )


def _held(grant: Grant) -> tuple[Answer, float | None] | None:
    """What keeps every request away from GRANT, and until when; None where nothing does."""
    if grant.state is GrantState.PAUSED:
        return Answer.PAUSED, grant.due_at
    is_lost = grant.state is GrantState.REAUTHORIZATION_REQUIRED
    if is_lost or not grant.is_renewable:
        return Answer.PERSON_NEEDED, None
    if grant.intent is not None:
        return Answer.EXCHANGE_OPEN, grant.due_at
    if grant.refused_at is not None:
        return Answer.DOUBTED, grant.due_at
    backs_off = grant.failures > 0 or grant.early_refusals > 0
    if backs_off or grant.status_reason == Reason.NO_PROGRESS:
        return Answer.BACKING_OFF, grant.due_at
    return None


def _lost(grant: Grant, now: float) -> Grant:
    """A token that nothing here can replace is of no use any more: somebody must."""
    if grant.state not in {GrantState.FRESH, GrantState.DEGRADED}:
        return grant
    is_static = grant.kind is GrantKind.STATIC
    reason = Reason.TOKEN_REJECTED if is_static else Reason.NO_REFRESH_TOKEN
    return in_state(grant, GrantState.REAUTHORIZATION_REQUIRED, reason, now)


def _stands(grant: Grant, version: int, now: float) -> bool:
    """Whether the refresh that the last rejection of VERSION brought is still to come."""
    rejection = grant.rejection
    if rejection is None or rejection.version != version or rejection.until is None:
        return False
    is_taken = rejection.answer in {Answer.ACCEPTED, Answer.DEFERRED}
    return is_taken and grant.due_at is not None and grant.due_at <= max(rejection.until, now)


def _is_young(grant: Grant, now: float) -> bool:
    if grant.issued_at is None or grant.lifetime is None:
        return False
    return now - grant.issued_at < YOUNG * grant.lifetime


def _free_at(grant: Grant, now: float) -> float:
    """When the next refresh may be that consumers ask for."""
    if grant.requested_at is None:
        return now
    interval = grant.request_interval or schedule.request_interval(grant.lifetime)
    # A clock that was set back may have left an instant that no interval explains.
    is_plausible = grant.requested_at <= now + interval
    return max(now, grant.requested_at + interval) if is_plausible else now
