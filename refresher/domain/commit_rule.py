"""The commit rule: does the outcome of an exchange still count?

An outcome is applied only to the authorization it was made under, never over a
later-sent answer, and only if it presented the stored refresh token or its direct
predecessor. Whether the lease still holds is not asked: a late holder with an answer
owns the only good refresh token (DESIGN 5, FAILURES 10, 30, 31).
"""

from dataclasses import replace
from enum import StrEnum

from refresher.domain.fields import Trait, fields_with
from refresher.domain.grants import Grant, GrantState, Intent, TokenSet
from refresher.domain.pauses import through

MOMENT = 0.001
"""Seconds by which equal instants may differ once a clock has moved them."""

_LEFT, _FAILING = fields_with(Trait.LEFT), fields_with(Trait.FAILING)


class Verdict(StrEnum):
    """What the commit rule says of an outcome."""

    APPLY = "apply"
    ALREADY_APPLIED = "already_applied"
    """This very attempt was adopted: its commit succeeded and only the answer got lost."""
    SUPERSEDED = "superseded"
    """Too late or of another authorization; tokens in it become an orphan."""


def judge(
    stored: Grant,
    claimed: Grant,
    intent: Intent,
    tokens: TokenSet | None,
    *,
    gives_up: bool = False,
) -> Verdict:
    """Judge the outcome of INTENT, made when the grant was CLAIMED, against STORED.

    A failure says something only of the latest attempt and of the stored refresh token;
    tokens are adopted also from an earlier attempt, until a later one was.

    Example: attempt 5 is sent at second 0 and hangs; at second 30 attempt 6 presents the same
    refresh token. At second 31 the answer to 5 comes and is adopted. At second 32 the server
    says ``invalid_grant`` to 6, because 5 had spent what 6 presented. That word is superseded:
    it says nothing of the refresh token that 5 brought. Had 6 been answered with tokens, they
    would replace those of 5, since the server made them later.

    Had 5 brought an access token alone, the server goes on with the refresh token of both. Then
    the refusal of 6 is no sign of a lost rotation any more, and is asked for again.

    Args:
        gives_up: the outcome ends the authorization, by what was known when it was CLAIMED.
    """
    if stored.uid != claimed.uid or stored.authorization_serial != claimed.authorization_serial:
        return Verdict.SUPERSEDED
    if stored.adopted_sequence == intent.sequence:
        return Verdict.ALREADY_APPLIED
    if stored.adopted_sequence > intent.sequence:
        return Verdict.SUPERSEDED
    presented_stored = stored.refresh_token_fingerprint == intent.presented
    if tokens is None:
        is_latest = stored.attempt_sequence == intent.sequence
        is_answered_since = stored.adopted_sequence > claimed.adopted_sequence
        counts = is_latest and presented_stored and not (gives_up and is_answered_since)
        return Verdict.APPLY if counts else Verdict.SUPERSEDED
    is_lost = stored.state is GrantState.REAUTHORIZATION_REQUIRED
    is_open = stored.intent is not None and stored.intent.sequence == intent.sequence
    if tokens.refresh_token is None and is_lost and not is_open:
        # What it presented was finally rejected since, and no operator has asked again (G6).
        return Verdict.SUPERSEDED
    presented_predecessor = stored.predecessor_fingerprint == intent.presented
    return Verdict.APPLY if presented_stored or presented_predecessor else Verdict.SUPERSEDED


def merge(stored: Grant, claimed: Grant, after: Grant, intent: Intent) -> Grant:
    """AFTER, with what has been written since the grant was CLAIMED.

    That is a later attempt, or the step of a clock: it moved every instant of STORED, of
    which AFTER may only bring those that the outcome touched. Tokens touch them all: a refusal
    that a later attempt met is over with them, and so is what consumers said of the last token.
    A pause that an operator has ordered goes on whatever an exchange brings.

    Two examples. The clock is set back by an hour while the exchange is out: ``since`` of
    STORED moved with it, AFTER has that of CLAIMED, which lies an hour ahead now; so it is
    taken from STORED. Or attempt 6 was sent while the answer to 5 was out, so the intent has
    two open attempts; the answer to 5 accounts for one, and 6 stays open, for its answer may
    still come.
    """
    return through(stored, _merged(stored, claimed, after, intent))


def _merged(stored: Grant, claimed: Grant, after: Grant, intent: Intent) -> Grant:
    has_tokens = after.served_at != claimed.served_at
    untouched = {
        name: getattr(stored, name)
        for name in _LEFT
        if getattr(after, name) == getattr(claimed, name) and not (has_tokens and name in _FAILING)
    }
    after = replace(after, **untouched)
    if not has_tokens:
        after = replace(after, rejection=stored.rejection)
    if stored.attempt_sequence != intent.sequence:
        others = stored.intent
        if others is not None and _counts(others, intent):
            others = others.without_one  # this attempt is accounted for now
        # A vault that has lost its last writes may know less of them than the answer (I2).
        sequence = max(stored.attempt_sequence, intent.sequence)
        return replace(after, attempt_sequence=sequence, intent=others)
    if after.intent is None or stored.intent is None:
        return after
    first_sent_at = stored.intent.first_sent_at
    return replace(after, intent=replace(after.intent, first_sent_at=first_sent_at))


def _counts(stored: Intent, attempt: Intent) -> bool:
    """Whether STORED counts ATTEMPT among those that are open.

    Not where it was begun after ATTEMPT: a refusal had ended the intent that counted it. A
    clock that was set back moves what is stored, and never ahead of what was claimed.
    """
    begun_later = stored.first_sent_at - attempt.first_sent_at > MOMENT
    return stored.presented == attempt.presented and not begun_later


def next_version(previous: int, now: float) -> int:
    """A number above PREVIOUS that also outgrows whatever a lost or older vault made.

    Versions and revisions are unix milliseconds unless the previous one was higher.
    """
    return max(previous + 1, int(now * 1000))
