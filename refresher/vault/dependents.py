"""Grants whose token is exchanged for that of another: how they follow it (RFC 8693).

One that found its subject without a token waits like any that fails, and is due again as soon
as the subject has one.
"""

import sqlalchemy as sa

from refresher.domain.grants import Fault, GrantKind, GrantState
from refresher.domain.reasons import Reason
from refresher.vault.renewals import LIVES_YET
from refresher.vault.schema import grants
from refresher.vault.selecting import PAGE


def awaited(now: float | sa.BindParameter[float]) -> sa.Select[tuple[int]]:
    """Which wait for a subject that has a token now; a page of them."""
    subject = grants.alias("subjects")
    ready = (
        sa.text("grants.kind = 'exchange'"),  # as the index has it
        grants.c.subject == subject.c.name,
        grants.c.fault == Fault.GRANT.value,
        grants.c.reason.like(f"{Reason.SUBJECT_MISSING}%"),
        grants.c.due_at + 0 > now,  # a sum: no walk through all that is due later
        grants.c.state != GrantState.PAUSED.value,
        subject.c.token_sealed.is_not(None),
        subject.c.state != GrantState.REMOVED.value,
        sa.or_(  # ``renewals``: the token is of its last authorization
            subject.c.kind != GrantKind.REFRESHABLE.value,
            subject.c.served_at.is_not(None),
            subject.c.issued_at >= subject.c.refresh_token_obtained_at,
        ),
        sa.or_(subject.c.expires_at.is_(None), subject.c.expires_at >= now + LIVES_YET),
    )
    return sa.select(grants.c.id).where(*ready).limit(PAGE)
