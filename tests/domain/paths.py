"""Every path of a grant: from which state what leads to which, found by trying all of them."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any, get_args

from refresher.domain.adoption import Attempt
from refresher.domain.clients import UnknownOutcome
from refresher.domain.grants import Fault, Grant, GrantKind, GrantState
from refresher.domain.outcomes import (
    AnswerUnread,
    GrantRejected,
    Outcome,
    OutcomeUnknown,
    RefreshTokenOnly,
    SubjectMissing,
    TokenAnswer,
    TooEarly,
    Transient,
)
from refresher.domain.secret import Secret
from refresher.domain.states import pass_time
from refresher.domain.transition import transition
from tests.domain.world import (
    CLIENT_REJECTED,
    MISCONFIGURED,
    NONE,
    NOT_SENT,
    NOW,
    PROOF_DEMANDED,
    REJECTED,
    REQUEST_REJECTED,
    STRICT,
    THROTTLED,
    answered,
    claimed,
    make_client,
    make_grant,
)

Edge = tuple[str, str, str]
"""State before, what happened, state after."""

PREDECESSOR = "Predecessor"
"""What happens to a grant on probation whose refresh token is refused: it goes back."""

ONLY_REFRESH_TOKEN = TokenAnswer(access_token=None, refresh_token=Secret("rt-1"))

OUTCOMES: tuple[Outcome, ...] = (
    answered(),
    answered(expires_in=0.5),
    RefreshTokenOnly(answer=ONLY_REFRESH_TOKEN, status=200),
    NOT_SENT,
    SubjectMissing(subject="other"),
    THROTTLED,
    Transient(reason="http_403", status=403, is_own_word=False),
    TooEarly(error="too_early", status=400),
    OutcomeUnknown(reason="timeout"),
    OutcomeUnknown(reason="unreadable", status=200, body=b"x", may_hold_tokens=True),
    AnswerUnread(status=200, body=b"x", bug=ValueError()),
    AnswerUnread(status=500, body=b"x", bug=ValueError()),
    REJECTED,
    GrantRejected(error="invalid_grant", status=400, needs_person=True),
    CLIENT_REJECTED,
    MISCONFIGURED,
    PROOF_DEMANDED,
    REQUEST_REJECTED,
)

LEFT: dict[GrantState, tuple[float | None, ...]] = {
    GrantState.PENDING: (None,),
    GrantState.FRESH: (900.0, 20.0, -1.0),
    GrantState.DEGRADED: (900.0, 20.0, -1.0),
    GrantState.EXPIRED: (-10.0,),
    GrantState.PAUSED: (None, 900.0, 20.0, -10.0),
    GrantState.REAUTHORIZATION_REQUIRED: (None, 900.0, -10.0),
}
"""Seconds that the access token of a grant in each state may still have; None: there is none.

A token of a fresh grant may end while the exchange is out."""

HISTORIES: tuple[dict[str, Any], ...] = (
    {"served_at": None},
    {"served_at": NOW - 9e5},
    {"served_at": NOW - 9e5, "refused_at": NOW - 60.0},
    {"served_at": NOW - 9e5, "refused_at": NOW - 9e4},
    {"served_at": NOW - 9e5, "failing_since": NOW - 9e4},
    {"served_at": NOW - 9e5, "on_probation": True, "predecessor_fingerprint": b"before"},
)
"""What a grant may have behind it: never served, served, doubted, refused for a day, failing,
an odd answer."""

ROTATIONS = (NONE, STRICT)
"""The others are one of these two, by the time that has passed."""


def grants() -> Iterator[Grant]:
    """A grant of every state, token and history."""
    for state, lefts in LEFT.items():
        for left, history in product(lefts, HISTORIES):
            yield make_grant(left, state=state, fault=Fault.GRANT, **history)


def exchanges() -> set[Edge]:
    """What every outcome of an exchange makes of a grant in every state."""
    found = set()
    policies = (UnknownOutcome.REPLAY, list(UnknownOutcome)[-1])
    clients = [
        make_client(rotation, on_unknown_outcome=policy)
        for rotation, policy in product(ROTATIONS, policies)
    ]
    ways = list(product(OUTCOMES, clients, (1, 2), (Fault.GRANT, Fault.CLIENT)))
    for grant in grants():
        for outcome, client, attempts, fault in ways:
            attempt = Attempt(sent_at=NOW, ended_at=NOW + 1.0, draw=0.5, fault=fault)
            change = transition(claimed(grant, attempts=attempts), client, outcome, attempt)
            what = PREDECESSOR if change.restores_predecessor else type(outcome).__name__
            found.add((grant.state.value, what, change.grant.state.value))
    return found


def passages_of_time() -> set[Edge]:
    """What the clock alone makes of a grant in every state."""
    found = set()
    for grant, failures in product(grants(), (0, 3)):
        refreshable = replace(grant, failures=failures)
        static = replace(grant, kind=GrantKind.STATIC, failures=failures)
        alone = replace(refreshable, refresh_token_fingerprint=None)
        for before in (refreshable, static, alone):
            after = pass_time(before, NOW)
            if after.state is not before.state:
                found.add((before.state.value, "time", after.state.value))
    return found


def outcome_names() -> set[str]:
    """Every outcome that there is."""
    return {outcome.__name__ for outcome in get_args(Outcome)}
