"""What is read from the vault, and the one write the clock causes."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.domain import schedule
from refresher.domain.commit_rule import next_version
from refresher.domain.grants import Grant, GrantState, Publication
from refresher.domain.reasons import Reason
from refresher.domain.states import pass_time
from refresher.errors import VaultKeyError
from refresher.logs import Event, emit
from refresher.vault import dependents, keys
from refresher.vault.aside import Aside
from refresher.vault.prepared import Prepared
from refresher.vault.reading import build_all, guarded, read_all, read_one
from refresher.vault.refusals import is_of_one_row
from refresher.vault.rows import Row, Sealer, Transaction, as_row, grant_of, status_values
from refresher.vault.schema import (
    DEGRADES_AT,
    FAILS_ALONE,
    IS_DEGRADING,
    IS_WORKED_ON,
    WAITS_FOR_A_PERSON,
    grants,
)

NOTICED_WITHIN = 3_600.0
"""Seconds after its end in which that of a lost grant's token is still worth telling."""

Now = float | sa.BindParameter[float]
"""An instant, or the place of one in a statement that is prepared."""

IN_ONE_PASS = 200
"""Grants the clock may change in one transaction: whoever commits an answer waits for it."""


def publications(
    connection: Connection, sealer: Sealer, aside: Aside, names: Sequence[str]
) -> list[Publication]:
    """What is to be published of NAMES, in no order; unknown names are left out."""
    found = _published(connection, sealer, aside, grants.c.name.in_(names))
    return [publication for _, publication in found if publication is not None]


def walk(
    connection: Connection, sealer: Sealer, aside: Aside, after: int, limit: int
) -> list[Publication]:
    """Up to LIMIT publications with ids above AFTER, in id order, removed ones included.

    Empty only at the end, whatever is or was set aside meanwhile.
    """
    while True:
        known = len(aside.ids)
        found = _next(connection, sealer, aside, after, limit)
        sound = [publication for _, publication in found if publication is not None]
        if sound or (not found and len(aside.ids) == known):
            return sound
        after = max((number for number, _ in found), default=after)


_BEHIND = Prepared(
    sa.select(grants)
    .where(grants.c.id > sa.bindparam("after", type_=sa.BigInteger))
    .order_by(grants.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)


def _next(
    connection: Connection, sealer: Sealer, aside: Aside, after: int, limit: int
) -> list[tuple[int, Publication | None]]:
    """As ``_published`` of the rows behind AFTER, in less time where all of them are sound."""
    try:
        values = _BEHIND.rows(connection, {"after": after, "limit": limit})
        rows = [as_row(one) for one in values]
    except Exception as error:
        if not is_of_one_row(error):
            raise
        rows = []
    if not rows or any(row["id"] in aside.ids for row in rows):
        return _published(connection, sealer, aside, grants.c.id > after, limit)
    return build_all(connection, aside, rows, partial(_build, sealer, aside))


def open_again(connection: Connection, sealer: Sealer, aside: Aside) -> list[str]:
    """The names of the grants that no key opened, and one does now: it was put back."""
    if not aside.unopened and not aside.unclaimed:
        return []
    with suppress(VaultKeyError):  # the keys stay what they were
        keys.read_again(connection, sealer.keyring)
    held = grants.c.id.in_(aside.unclaimed[:IN_ONE_PASS])
    for number, is_open in read_all(connection, aside, held, partial(_is_open, sealer)):
        if is_open:
            aside.claimable(number)
    waiting = grants.c.id.in_(aside.unopened[:IN_ONE_PASS])
    found = _published(connection, sealer, aside, waiting)
    return [publication.grant.name for _, publication in found if publication is not None]


def _is_open(sealer: Sealer, row: sa.RowMapping) -> tuple[int, bool]:
    """Whether the tokens in ROW open, by its id."""
    try:
        sealer.tokens(row)
    except VaultKeyError:
        return row["id"], False
    return row["id"], True


def _published(
    connection: Connection,
    sealer: Sealer,
    aside: Aside,
    condition: sa.ColumnElement[bool],
    limit: int | None = None,
) -> list[tuple[int, Publication | None]]:
    """What is to be published of the rows that meet CONDITION, by id; None of unopened ones."""
    return read_all(connection, aside, condition, partial(_build, sealer, aside), limit=limit)


def _build(sealer: Sealer, aside: Aside, row: Row) -> tuple[int, Publication | None]:
    try:
        publication = sealer.publication(row)
    except VaultKeyError as error:
        if sealer.keyring.missing is None:  # else one line says so, and others publish
            aside.put_unopened(grant_of(row), error)
        return row["id"], None
    if aside.opened(row["id"]) and publication.grant.reason != Reason.UNREADABLE:
        emit(Event.GRANT_READMITTED, grant=publication.grant.name)
    return row["id"], publication


def find_grant(connection: Connection, name: str) -> Grant | None:
    """The grant NAME, unless it was removed."""
    row = read_one(connection, grants.c.name == name)
    return None if row is None or row["state"] == GrantState.REMOVED else grant_of(row)


@dataclass(frozen=True, slots=True)
class Overdue:
    """The grants of one client that are due for long and that no exchange works on."""

    client: str | None
    count: int
    longest: str
    """The name of the one that is due for longest."""
    due_at: float
    """When that one was due."""
    expires_at: float | None
    """When its token ends."""


def overdue(connection: Connection, aside: Aside, before: float) -> list[Overdue]:
    """What is due since before BEFORE and nobody works on, one of each client."""
    waiting = sa.and_(
        grants.c.due_at < before,
        grants.c.lease_holder.is_(None),
        grants.c.id.not_in(aside.not_to_claim),
    )
    first = sa.select(grants.c.id).where(waiting).order_by(grants.c.due_at).limit(1)
    if connection.scalar(first) is None:
        return []  # found by an index on the due instants alone: the rule
    counted = connection.execute(
        sa.select(grants.c.client, sa.func.count(), sa.func.min(grants.c.due_at))
        .where(waiting)
        .group_by(grants.c.client)
    ).all()
    found = []
    for client, count, due_at in counted:
        longest = connection.execute(
            sa.select(grants.c.name, grants.c.expires_at)
            .where(waiting, grants.c.client.is_not_distinct_from(client), grants.c.due_at == due_at)
            .limit(1)
        ).one()
        found.append(Overdue(client, count, *longest[:1], due_at, longest[1]))
    return found


def has_time_passed(tx: Transaction) -> bool:
    """Whether the clock has changed anything of any grant: what mostly has not."""
    values = {"now": tx.now, "most": len(tx.aside.ids) + 1}
    return any(
        number not in tx.aside.ids
        for look in _looks()
        for (number,) in look.rows(tx.connection, values)
    )


@cache
def _looks() -> tuple[Prepared, ...]:
    """What the watch asks each second: whom the clock moves now, and who awaits a subject.

    One more than are set aside is enough to find one that is not.
    """
    now, most = sa.bindparam("now", type_=sa.Float), sa.bindparam("most", type_=sa.Integer)
    moving = [sa.select(grants.c.id).where(one) for one in (*_moved_by(now), _has_ended(now))]
    return tuple(Prepared(one.limit(most)) for one in (*moving, dependents.awaited(now)))


def time_passed(tx: Transaction, held_back: Collection[str] = ()) -> list[tuple[Grant, Grant]]:
    """Move grants to where the clock has brought them; give back before and after.

    A token that ended is news even where it changes no state. Some at a time: ask again until
    none is left. Of grants whose client is HELD_BACK, that is why.
    """
    moved: list[tuple[Grant, Grant]] = []
    for moving in _moved_by(tx.now):
        for before in read_all(tx.connection, tx.aside, moving, grant_of, limit=IN_ONE_PASS):
            after = pass_time(before, tx.now, held_back)
            if (after.state, after.reason) == (before.state, before.reason):
                continue
            after = replace(after, revision=next_version(before.revision, tx.now))
            if guarded(tx, after.id, partial(_store, tx, after)):
                moved.append((before, after))
    return moved + _ended(tx) + _subjects_back(tx)


def _ended(tx: Transaction) -> list[tuple[Grant, Grant]]:
    """Give a new revision to grants that wait for a person and whose token has just ended.

    Nothing else tells that their token has gone: they keep their state. A revision is of unix
    milliseconds, so one from after the end says that it was noticed.
    """
    noticed: list[tuple[Grant, Grant]] = []
    ended = _has_ended(tx.now)
    for before in read_all(tx.connection, tx.aside, ended, grant_of, limit=IN_ONE_PASS):
        after = replace(before, revision=next_version(before.revision, tx.now))
        if guarded(tx, after.id, partial(_store, tx, after)):
            noticed.append((before, after))
    return noticed


def _subjects_back(tx: Transaction) -> list[tuple[Grant, Grant]]:
    """Make due what waited for a subject that has a token now."""
    hastened: list[tuple[Grant, Grant]] = []
    awaited = grants.c.id.in_(dependents.awaited(tx.now))
    for before in read_all(tx.connection, tx.aside, awaited, grant_of):
        revision = next_version(before.revision, tx.now)
        after = replace(before, due_at=tx.now, revision=revision)
        if guarded(tx, after.id, partial(_store, tx, after)):
            hastened.append((before, after))
    return hastened


def _moved_by(now: Now) -> tuple[sa.ColumnElement[bool], ...]:
    """Which grants the clock moves (``states.pass_time``), by an index each.

    Their token has ended; or it nears its end and its refresh fails; or the grant has failed
    alone for long.
    """
    return (
        sa.and_(IS_WORKED_ON, grants.c.expires_at <= now),
        sa.and_(IS_DEGRADING, now > DEGRADES_AT),
        sa.and_(FAILS_ALONE, grants.c.failing_since <= now - schedule.UNEXPLAINED_FOR),
    )


def _has_ended(now: Now) -> sa.ColumnElement[bool]:
    """Which grants that wait for a person have a token that ended, and nobody noticed."""
    return sa.and_(
        WAITS_FOR_A_PERSON,
        grants.c.expires_at <= now,
        grants.c.expires_at > now - NOTICED_WITHIN,
        grants.c.revision < grants.c.expires_at * 1000,
    )


def _store(tx: Transaction, after: Grant) -> bool:
    change = sa.update(grants).where(grants.c.id == after.id).values(**status_values(after))
    tx.connection.execute(change)
    return True
