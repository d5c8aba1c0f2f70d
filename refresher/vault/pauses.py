"""The statements of the pauses that operators order: their beginning, and every pause's end.

Each function is one operation of a transaction; ``Pauses`` runs them durably.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.domain.grants import Grant, GrantState
from refresher.domain.pauses import OVER, at_its_end, paused, resumed
from refresher.domain.reasons import Reason
from refresher.domain.repairs import repair
from refresher.logs import Event, emit
from refresher.times import written
from refresher.vault import selecting
from refresher.vault.aside import Aside
from refresher.vault.authorizations import write
from refresher.vault.changes import What, note
from refresher.vault.exporting import Page, take_out
from refresher.vault.reading import guarded, read_all
from refresher.vault.rows import Run, Transaction, grant_of
from refresher.vault.schema import grants
from refresher.vault.selecting import Selection, read_page

Changes = list[tuple[Grant, Grant]]
"""Grants before and after; both are equal where nothing was to be changed."""


class Pauses:
    """The pauses of an open vault; each method is one transaction.

    Each raises ``VaultUnavailable`` when the vault refuses.
    """

    def __init__(self, *, write: Run, read: Run) -> None:
        self._write = write
        self._read = read

    async def pause(self, selected: Selection, *, until: float | None, after: int = 0) -> Changes:
        """Pause a page of SELECTED with ids above AFTER; empty at the end."""
        change = partial(paused, until=until, reason=Reason.PAUSED_HERE)
        noted = Noted(What.PAUSED, None if until is None else f"until {written(until)}")
        return await self._write(lambda tx: change_page(tx, selected, after, change, noted))

    async def resume(self, selected: Selection, *, after: int = 0) -> Changes:
        """Resume a page of SELECTED with ids above AFTER; empty at the end.

        Of a whole client what was exported stays paused: whoever has its refresh token by now
        is asked for each grant.
        """
        is_named = selected.names is not None

        def change(grant: Grant, now: float) -> Grant:
            is_exported = grant.status_reason == Reason.EXPORTED_HERE
            is_meant = grant.state is GrantState.PAUSED and (is_named or not is_exported)
            return resumed(grant, now) if is_meant else grant

        noted = Noted(What.RESUMED)
        return await self._write(lambda tx: change_page(tx, selected, after, change, noted))

    async def export(self, selected: Selection, *, after: int = 0) -> Page:
        """Hand out a page of refresh tokens, and pause their grants; see ``take_out``."""
        return await self._write(lambda tx: take_out(tx, selected, after))

    async def end_due(self) -> Changes:
        """End a page of the pauses whose end has come; empty when none is left."""
        if not await self._read(lambda tx: bool(_due(tx.connection, tx.aside, tx.now))):
            return []
        return await self._write(end_due)


class Noted(NamedTuple):
    """How an order is noted, for each grant that it changes or for all of a page."""

    what: What
    detail: str | None = None


def change_page(
    tx: Transaction,
    selected: Selection,
    after: int,
    change: Callable[[Grant, float], Grant],
    noted: Noted,
) -> Changes:
    """What CHANGE makes of a page of SELECTED, stored where it is another, and NOTED."""
    done = _changed(tx, read_page(tx, selected.condition(), after, grant_of), change)
    changed = [after for before, after in done if after != before]
    if selected.names is None and changed:
        note(tx, noted.what, client=selected.client, count=len(changed), detail=noted.detail)
    for grant in changed if selected.names is not None else ():
        note(tx, noted.what, grant, detail=noted.detail)
    return done


def end_due(tx: Transaction) -> Changes:
    """End the pauses whose end has come."""
    ended = grants.c.id.in_(_due(tx.connection, tx.aside, tx.now))
    return _changed(tx, read_all(tx.connection, tx.aside, ended, grant_of), at_its_end)


def tell_claimed(grant: Grant) -> None:
    """Say that a claim, which is durable, has paused GRANT, or has met the end of its pause."""
    if grant.state is not GrantState.PAUSED:
        emit(Event.GRANT_RESUMED, grant=grant.name, client=grant.client, reason=OVER)
        return
    emit(
        Event.GRANT_PAUSED,
        grant=grant.name,
        client=grant.client,
        reason=grant.reason,
        repair=repair(grant),
    )


def _changed(
    tx: Transaction, found: Sequence[Grant], change: Callable[[Grant, float], Grant]
) -> Changes:
    changes: Changes = []
    for before in found:
        after = change(before, tx.now)
        if after != before:
            after = guarded(tx, before.id, partial(write, tx, after, {})) or before
        changes.append((before, after))
    return changes


def _due(connection: Connection, aside: Aside, now: float) -> Sequence[int]:
    """Up to a page of the paused grants whose end has come, and which no claim has met."""
    due = (
        sa.select(grants.c.id)
        .where(
            grants.c.due_at <= now,
            grants.c.state == GrantState.PAUSED.value,
            grants.c.id.not_in(aside.ids),
        )
        .limit(selecting.PAGE)
    )
    return connection.scalars(due).all()
