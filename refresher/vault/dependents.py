"""Grants whose token is exchanged for that of another: how they follow it (RFC 8693).

One that found its subject without a token waits like any that fails, and is due again as soon
as the subject has one.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.domain.grants import Fault, GrantKind, GrantState
from refresher.domain.reasons import Reason
from refresher.vault.reading import update_all
from refresher.vault.renewals import LIVES_YET
from refresher.vault.rows import Run, Transaction
from refresher.vault.schema import grants
from refresher.vault.selecting import PAGE


class Dependents:
    """What depends on other grants of an open vault."""

    def __init__(self, *, write: Run, read: Run) -> None:
        self._write = write
        self._read = read

    async def hasten(self) -> int:
        """Make due what waited for a subject that has a token now; how many grants that were.

        Raises:
            VaultUnavailable: the vault refuses.
        """
        if not await self._read(lambda tx: bool(_ready(tx.connection, tx.now))):
            return 0
        return await self._write(_hasten)


def _hasten(tx: Transaction) -> int:
    ready = _ready(tx.connection, tx.now)
    update_all(tx, grants.c.id.in_(ready), {"due_at": tx.now})
    return len(ready)


def _ready(connection: Connection, now: float) -> Sequence[int]:
    """Up to a page of those that wait for a subject which has a token now."""
    subject = grants.alias("subjects")
    ready = (
        sa.text("grants.kind = 'exchange'"),  # as the index has it
        grants.c.subject == subject.c.name,
        grants.c.fault == Fault.GRANT.value,
        grants.c.reason.like(f"{Reason.SUBJECT_MISSING}%"),
        grants.c.due_at > now,
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
    return connection.scalars(sa.select(grants.c.id).where(*ready).limit(PAGE)).all()
