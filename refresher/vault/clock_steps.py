"""What a wall clock that was set back does to the instants the vault holds."""

import sqlalchemy as sa

from refresher.domain import schedule
from refresher.domain.grants import GrantKind, GrantState
from refresher.vault.reading import update_all
from refresher.vault.rows import Transaction
from refresher.vault.schema import grants, revocations

TOLERANCE = 5.0
"""Seconds an issue may lie in the future without consequence."""

SPREAD, EACH = 60.0, 0.1
"""Seconds over which grants are made due whose instants cannot be believed: at the most,
and for each of them where there are few."""

_INSTANTS = (
    grants.c.since,
    grants.c.refresh_token_obtained_at,
    grants.c.refresh_token_expires_at,
    grants.c.issued_at,
    grants.c.expires_at,
    grants.c.failing_since,
    grants.c.served_at,
    grants.c.refused_at,
    grants.c.due_at,
    grants.c.requested_at,
    grants.c.rejection_until,
    grants.c.intent_first_sent_at,
    grants.c.lease_taken_at,
)


def shift(tx: Transaction, offset: float) -> list[str]:
    """Move every instant by OFFSET seconds: the clock went, the time that passed did not.

    What is left of every life, wait and grace window stays what it was. The end of a
    static token is a person's word and stays.

    Returns:
        The names of the grants that must be published again.
    """
    measured = sa.and_(
        grants.c.kind != GrantKind.STATIC.value, grants.c.state != GrantState.REMOVED.value
    )
    update_all(tx, measured, {instant.name: instant + offset for instant in _INSTANTS})
    parked = (revocations.c.parked_at, revocations.c.due_at, revocations.c.ends_at)
    tx.connection.execute(
        sa.update(revocations).values({instant.name: instant + offset for instant in parked})
    )
    return list(tx.connection.scalars(sa.select(grants.c.name).where(measured)))


def hasten_misdated(tx: Transaction) -> list[str]:
    """Make due, spread out, what a clock that was ahead has dated.

    It was set back while nobody measured by how much. What is in a token issued in what is
    the future now cannot be believed; a grant that never failed and has no token waits for
    nothing; and nothing waits past its token's end for longer than the longest wait.
    An attempt dated in the future has been sent by now, a refusal has come. A doubted grant is
    asked for when it is due: it was refused by no clock, and a restart is no question.
    """
    for past in (grants.c.intent_first_sent_at, grants.c.refused_at):
        update_all(tx, past > tx.now + TOLERANCE, {past.name: tx.now})
    is_doubted = grants.c.refused_at.is_not(None)
    misdated = (
        sa.select(grants.c.id, grants.c.name)
        .where(
            grants.c.due_at > tx.now,
            grants.c.refresh_token_sealed.is_not(None),
            sa.or_(
                sa.and_(~is_doubted, grants.c.issued_at > tx.now + TOLERANCE),
                sa.and_(~is_doubted, grants.c.issued_at.is_(None), grants.c.failures == 0),
                sa.and_(
                    grants.c.due_at > tx.now + schedule.LONGEST_WAIT + TOLERANCE,
                    sa.or_(
                        is_doubted,
                        sa.func.coalesce(grants.c.expires_at < grants.c.due_at, sa.true()),
                    ),
                ),
            ),
        )
        .order_by(grants.c.expires_at)
    )
    rows = tx.connection.execute(misdated).all()
    for place, row in enumerate(rows):
        due_at = tx.now + min(EACH, SPREAD / len(rows)) * place
        later = sa.and_(grants.c.id == row.id, grants.c.due_at > due_at)
        update_all(tx, later, {"due_at": due_at})
    return [row.name for row in rows]
