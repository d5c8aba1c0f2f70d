"""Ends: those of refresh tokens that a person is told of, each once; those learned later."""

from dataclasses import replace
from functools import partial

import sqlalchemy as sa

from refresher.domain.adoption import with_learned_end
from refresher.domain.clients import Client
from refresher.domain.commit_rule import next_version
from refresher.domain.endings import announced
from refresher.domain.grants import Grant, GrantState
from refresher.vault.authorizations import row_by_name, write
from refresher.vault.reading import guarded, read_all
from refresher.vault.rows import Run, Transaction, grant_of
from refresher.vault.schema import HAS_WARNING, grants

IN_ONE_PASS = 200
"""Grants of one transaction: whoever commits an answer waits for it."""


class Endings:
    """The known ends of an open vault."""

    def __init__(self, *, write: Run, read: Run) -> None:
        self._write, self._read = write, read

    async def take_due(self) -> list[tuple[Grant, bool]]:
        """Ends that a person is to be told of; see ``take_due``.

        Raises:
            VaultUnavailable: the vault refuses.
        """
        return await self._write(take_due) if await self._read(is_due) else []

    async def learn(self, grant: Grant, client: Client, ends_at: float, draw: float) -> bool:
        """Let the access token of GRANT end at ENDS_AT; see ``learn``."""
        return await self._write(lambda tx: learn(tx, grant, client, ends_at, draw))


def learn(tx: Transaction, grant: Grant, client: Client, ends_at: float, draw: float) -> bool:
    """Let the access token of GRANT end at ENDS_AT, as its server has told only now.

    Returns:
        False where the grant has another token by now, or something else has begun or failed.
    """
    row = row_by_name(tx, grant.name)
    stored = None if row is None else grant_of(row)
    is_same = stored is not None and (stored.uid, stored.version) == (grant.uid, grant.version)
    if stored is None or not is_same or stored.intent is not None or stored.failures:
        return False
    if stored.state is not GrantState.FRESH:
        return False
    write(tx, with_learned_end(stored, client, ends_at, tx.now, draw), {})
    return True


def is_due(tx: Transaction) -> bool:
    """Whether a person is to be told of an end."""
    # In this order PostgreSQL goes by the index, whatever it knows of how many have a warning.
    due = sa.select(grants.c.id).where(_due(tx.now), grants.c.id.not_in(tx.aside.ids))
    one = due.order_by(grants.c.end_warning_at).limit(1)
    return tx.connection.scalar(one) is not None


def take_due(tx: Transaction) -> list[tuple[Grant, bool]]:
    """Grants whose refresh tokens end soon, and whether that is to be told now.

    It is not where a person is needed already. Some at a time: ask again until none is left.
    """
    taken: list[tuple[Grant, bool]] = []
    for before in read_all(tx.connection, tx.aside, _due(tx.now), grant_of, limit=IN_ONE_PASS):
        is_told = before.state not in {GrantState.REAUTHORIZATION_REQUIRED, GrantState.REMOVED}
        after = replace(before, end_warning_at=None)
        if is_told:
            after = announced(before, tx.now)
        after = replace(after, revision=next_version(before.revision, tx.now))
        if guarded(tx, after.id, partial(_store, tx, after)):
            taken.append((after, is_told))
    return taken


def _due(now: float) -> sa.ColumnElement[bool]:
    return sa.and_(HAS_WARNING, grants.c.end_warning_at <= now)


def _store(tx: Transaction, after: Grant) -> bool:
    change = sa.update(grants).where(grants.c.id == after.id)
    names = ("end_warning_at", "end_announced", "revision")
    tx.connection.execute(change.values({name: getattr(after, name) for name in names}))
    return True
