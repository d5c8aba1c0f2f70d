"""Whose an outcome's failure was, as far as one exchange alone can tell.

The engine knows more, because it sees what happens to other grants of the client and of
the endpoint at the same time (``engine.admission``).
"""

from typing import assert_never

from refresher.domain.grants import Fault
from refresher.domain.outcomes import (
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
    TooEarly,
    Transient,
)


def usual_fault(outcome: Outcome) -> Fault | None:
    """The fault of OUTCOME by itself; None where nothing failed."""
    match outcome:
        case Refreshed() | TooEarly():
            return None
        case NotSent() | Transient() | OutcomeUnknown():
            return Fault.ENDPOINT
        case ClientRejected() | Misconfigured() | ProofDemanded():
            return Fault.CLIENT
        case GrantRejected() | RequestRejected() | RefreshTokenOnly() | AnswerUnread():
            return Fault.GRANT
        case SubjectMissing():
            return Fault.GRANT
        case _:
            assert_never(outcome)
