"""What a refused refresh token does to its grant: doubted before dead (guarantee G6).

Servers say ``invalid_grant`` to everybody while their store is away, and to one grant in
passing. Whoever believes them at once sends every account through a new login. So a
grant that was served before is asked for again, and lost only when half an hour of
refusals and another grant that was served meanwhile say that the server means it.
"""

import math
from dataclasses import replace
from typing import assert_never

from refresher.domain import schedule
from refresher.domain.adoption import Attempt, in_state
from refresher.domain.clients import Client
from refresher.domain.grants import Claim, Fault, Grant, GrantState, Intent
from refresher.domain.outcomes import GrantRejected
from refresher.domain.quirks import Rotation, RotationProfile
from refresher.domain.reasons import BOUND, Reason, worded


def refused(claim: Claim, client: Client, outcome: GrantRejected, attempt: Attempt) -> Grant:
    """The grant of CLAIM after its refresh token was refused.

    What renews itself is never lost: it is asked for again, at a growing interval.

    A refresh token that may be bound to a key is doubted until a witness says otherwise.

    Single refusals are final at once: after an exchange whose outcome never became known,
    because then the successor is what was lost; of a restored copy; of a seed that was never
    served; where the server says in so many words that a person must act; and of an access
    token that renews its grant, and had ended.
    """
    grant, error = claim.grant, outcome.error
    if grant.kind.renews_itself:
        # Its key, its subject or its client is refused, which others can mend at any time.
        return _doubted(grant, grant.refused_at or attempt.ended_at, error, attempt)
    rotates = client.quirks.rotation.profile is not RotationProfile.NONE
    if rotates and claim.intent.is_replay:
        return _lost(grant, Reason.ROTATION_LOST, error, attempt)
    if rotates and claim.is_of_copy:
        return _lost(grant, Reason.RESTORED_COPY, error, attempt)
    has_ended = grant.expires_at is not None and grant.expires_at <= attempt.sent_at
    if client.quirks.renews_with_access_token and has_ended:
        return _lost(grant, Reason.TOKEN_ENDED, error, attempt)
    if _may_be_bound(claim, client, outcome):
        return _perhaps_bound(claim, error, attempt)
    if outcome.needs_person or (grant.served_at is None and (rotates or grant.refusals > 0)):
        return _lost(grant, Reason.REVOKED, error, attempt)
    first_refused_at = attempt.ended_at if grant.refused_at is None else grant.refused_at
    if schedule.is_final_refusal(
        first_refused_at, attempt.ended_at, claim.witness_at, client.policy.doubt_for
    ):
        return _lost(grant, Reason.REVOKED, error, attempt)
    return _doubted(grant, first_refused_at, error, attempt)


def _may_be_bound(claim: Claim, client: Client, outcome: GrantRejected) -> bool:
    """Whether OUTCOME may be about a missing DPoP proof, and the refresh token as good as ever.

    Servers that bind refresh tokens to keys refuse a request without a proof with a bare
    ``invalid_grant``. A refresh token that was served here is bound to none: no proof is ever
    sent.
    """
    knows_proofs = client.endpoints.offers_proof or claim.token_type.lower() == "dpop"
    if not knows_proofs or claim.grant.served_at is not None:
        return False
    is_bare = outcome.error == "invalid_grant" and not outcome.is_explained
    return is_bare and not outcome.needs_person


def _perhaps_bound(claim: Claim, error: str, attempt: Attempt) -> Grant:
    """The grant of CLAIM, whose refresh token may be bound to a key, and costs nothing to keep.

    Time says nothing about that. Another grant of the client that was served meanwhile does:
    the client needs no proofs, so the refusal is believed like any other.
    """
    grant = claim.grant
    first_refused_at = attempt.ended_at if grant.refused_at is None else grant.refused_at
    if schedule.is_final_refusal(
        first_refused_at, attempt.ended_at, claim.witness_at, doubt_for=math.inf
    ):
        return _lost(grant, Reason.REVOKED, error, attempt)
    return _doubted(grant, first_refused_at, BOUND, attempt)


def is_predecessor_safe(grant: Grant, rotation: Rotation, now: float) -> bool:
    """Whether the predecessor of GRANT's refresh token can be sent without harm NOW.

    A server that rotates strictly takes a predecessor for a stolen one, and ends every token
    of the authorization (RFC 9700 4.14.2).
    """
    match rotation.profile:
        case RotationProfile.NONE | RotationProfile.UNTIL_USED:
            return True
        case RotationProfile.GRACE:
            rotated_at = grant.refresh_token_obtained_at
            return rotated_at is not None and now <= schedule.last_replay_at(rotated_at, rotation)
        case RotationProfile.STRICT | RotationProfile.UNKNOWN:
            return False
        case _:
            assert_never(rotation.profile)


def predecessor_again(claim: Claim, attempt: Attempt) -> Grant:
    """The grant of CLAIM, whose refresh token was searched for in an odd answer and is refused.

    If the refusal is meant, what the search found was no refresh token, or not this grant's.
    The predecessor may still be good, and is tried once; a refusal of it too means that the
    successor was lost.
    """
    grant, intent = claim.grant, claim.intent
    assert grant.predecessor_fingerprint is not None
    opened = Intent(
        sequence=intent.sequence,
        presented=grant.predecessor_fingerprint,
        first_sent_at=intent.first_sent_at,
        attempts=1,
    )
    return replace(
        grant,
        intent=opened,
        due_at=attempt.ended_at,
        failures=grant.failures + 1,
        fault=Fault.GRANT,
        refresh_token_fingerprint=grant.predecessor_fingerprint,
        on_probation=False,
    )


def still_lost(grant: Grant, after: Grant, *, is_answered: bool) -> Grant:
    """GRANT, finally rejected before, after an operator's order brought AFTER and no token.

    Args:
        is_answered: the server refused once more, so the order is carried out.
    """
    kept = replace(after, state=grant.state, reason=grant.reason, since=grant.since)
    if not is_answered:
        return kept
    return replace(kept, due_at=None, intent=None, refused_at=None, refusals=0)


def _doubted(grant: Grant, first_refused_at: float, error: str, attempt: Attempt) -> Grant:
    """Told everywhere at once, and kept: no latch, no loss, its live token stays."""
    refusals = grant.refusals + 1
    if grant.served_at is None and not grant.kind.renews_itself and error != BOUND:
        # Never served, and refresh tokens do not rotate here: confirmed once, then believed.
        due_at = attempt.ended_at + schedule.REJECTION_CONFIRMATION * (1 + attempt.draw)
    else:
        due_at = schedule.next_question(first_refused_at, refusals, attempt.ended_at, attempt.draw)
    return replace(
        grant,
        reason=worded(Reason.REFUSED, error),
        refused_at=first_refused_at,
        refusals=refusals,
        failing_since=first_refused_at,
        due_at=due_at,
        failures=grant.failures + 1,
        fault=Fault.GRANT,
        intent=None,
    )


def _lost(grant: Grant, reason: str, error: str, attempt: Attempt) -> Grant:
    return in_state(
        replace(
            grant,
            due_at=None,
            intent=None,
            failures=grant.failures + 1,
            fault=Fault.GRANT,
            refused_at=None,
            refusals=0,
        ),
        GrantState.REAUTHORIZATION_REQUIRED,
        worded(reason, error),
        attempt.ended_at,
    )
