"""What makes grants due earlier than planned, because something was mended.

All grants of a client may be meant, and whoever commits an answer waits for a transaction. So
each takes a page of those that failed, which an index holds by whose fault that was and by the
time that is left to them.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import sqlalchemy as sa

from refresher.domain.commit_rule import next_version
from refresher.domain.grants import Fault, Grant, GrantKind, GrantState
from refresher.domain.reasons import Reason, worded
from refresher.vault.changes import What, note_each
from refresher.vault.prepared import Prepared
from refresher.vault.reading import at_once, guarded, read_all, update_all
from refresher.vault.rows import Run, Transaction, Values, grant_of, status_values
from refresher.vault.schema import grants

PAGE = 200
"""Grants that one transaction looks at."""

RENEW_THEMSELVES = [kind.value for kind in GrantKind if kind.renews_itself]

ORDER = 0.001
"""Seconds between two due instants that only keep an order."""


class Hastening:
    """What is made due in an open vault, page by page, each of them durable.

    Each raises ``VaultUnavailable`` when the vault refuses: what is left is due by itself.
    """

    def __init__(self, *, write: Run, read: Run) -> None:
        self._write, self._read = write, read

    async def blocked(self, client: str) -> int:
        """Make due what waits for CLIENT, or its settings, to be mended; how many grants."""
        count = 0
        async for hastened in self._pages(client, Fault, _hasten_blocked):
            count += hastened
        return count

    async def after_outage(self, clients: Sequence[str], each: float) -> None:
        """Make due, EACH seconds apart, the grants of CLIENTS whose endpoint was at fault.

        Those whose tokens end first come first, client by client. Nothing becomes due later by
        it, and a grant that fails by itself, or is paused, waits as it did.
        """
        spread = _Spread(each)
        for client in clients:
            async for _ in self._pages(client, [Fault.ENDPOINT], spread.hasten):
                pass

    async def single_out(self, client: str, each: float) -> AsyncIterator[list[Grant]]:
        """Give the grants of CLIENT that its server refused a state of their own.

        Others are served. They are asked for once more, EACH seconds apart; if the client
        itself was mended meanwhile they are served too.

        Returns:
            The grants as they are now, page by page.
        """
        spread = _Spread(each)
        async for page in self._pages(client, Fault, spread.single_out):
            yield page

    async def ask_lost(
        self, *, names: Sequence[str] | None = None, client: str | None = None
    ) -> list[str]:
        """Make due once more what was finally rejected, on an operator's word.

        One after the other, since they share the one place of the doubted; the one that was
        served last comes first, because it is the likeliest to be good.

        Args:
            names: these grants; None takes all.
            client: those of this client; None takes all.

        Returns:
            The names that are asked for, in their order.
        """
        lost = await self._read(lambda tx: find_lost(tx, names, client))
        spread, asked = _Spread(ORDER), list[str]()
        for start in range(0, len(lost), PAGE):
            asked += await self._write(partial(spread.ask_lost, ids=lost[start : start + PAGE]))
        return asked

    async def _pages(
        self,
        client: str,
        faults: Sequence[Fault] | type[Fault],
        change: Callable[[Transaction, list[int]], Any],
    ) -> AsyncIterator[Any]:
        """What CHANGE makes of the grants of CLIENT whose last failure was one of FAULTS.

        Whatever has failed no more, or fails only now, is left to its own due instant.
        """
        for fault in faults:
            reached: _Reached | None = _Reached()
            while reached is not None:
                page = _Page(client, fault, reached)
                done, reached = await self._write(partial(page.changed, change=change))
                yield done


@dataclass(frozen=True, slots=True)
class _Reached:
    """The last grant of a page, by the end of its token; those come first that have none."""

    ends_at: float | None = None
    id: int = 0


def _in_order(*conditions: sa.ColumnElement[bool]) -> Prepared:
    failed = sa.select(grants.c.id, grants.c.expires_at).where(
        grants.c.client == sa.bindparam("client"),
        grants.c.fault == sa.bindparam("fault"),
        *conditions,
    )
    ordered = failed.order_by(grants.c.expires_at, grants.c.id)
    return Prepared(ordered.limit(sa.bindparam("limit", type_=sa.Integer)))


_ENDS_AT = sa.bindparam("ends_at", type_=sa.Float)
_BEHIND = grants.c.id > sa.bindparam("after", type_=sa.Integer)

# Very many may end at the same time: see ``readable``.
_WITHOUT_END = _in_order(grants.c.expires_at.is_(None), _BEHIND)
_AT_THE_SAME_TIME = _in_order(grants.c.expires_at == _ENDS_AT, _BEHIND)
_LATER = _in_order(grants.c.expires_at > _ENDS_AT)


@dataclass(frozen=True, slots=True)
class _Page:
    client: str
    fault: Fault
    after: _Reached

    def changed(
        self, tx: Transaction, change: Callable[[Transaction, list[int]], Any]
    ) -> tuple[Any, _Reached | None]:
        """What CHANGE makes of it, and where the next one begins; None at the end."""
        rows = self._rows(tx)
        done = change(tx, [number for number, _ in rows])
        return done, None if len(rows) < PAGE else _Reached(rows[-1][1], rows[-1][0])

    def _rows(self, tx: Transaction) -> list[Any]:
        values = {"client": self.client, "fault": self.fault.value, "after": self.after.id}
        rows: list[Any] = []
        if (ends_at := self.after.ends_at) is None:
            rows = _WITHOUT_END.rows(tx.connection, values | {"limit": PAGE})
            ends_at = float("-inf")
        else:
            same = values | {"ends_at": ends_at, "limit": PAGE}
            rows = _AT_THE_SAME_TIME.rows(tx.connection, same)
        if len(rows) < PAGE:
            later = values | {"ends_at": ends_at, "limit": PAGE - len(rows)}
            rows += _LATER.rows(tx.connection, later)
        return rows


def _hasten_blocked(tx: Transaction, ids: list[int]) -> int:
    """Make due those of IDS that wait for their client; how many."""
    blocked = [f"{reason}%" for reason in (Reason.CLIENT_REJECTED, Reason.MISCONFIGURED)]
    # What was refused may be the client's key, or what its settings say.
    is_refused = sa.and_(
        grants.c.reason.like(f"{Reason.REFUSED}%"), grants.c.kind.in_(RENEW_THEMSELVES)
    )
    waiting = sa.and_(
        grants.c.id.in_(ids),
        grants.c.due_at.is_not(None),
        sa.or_(*(grants.c.reason.like(pattern) for pattern in blocked), is_refused),
    )
    found = tx.connection.scalars(sa.select(grants.c.id).where(waiting)).all()
    update_all(tx, grants.c.id.in_(found), {"due_at": tx.now})
    return len(found)


class _Spread:
    """Due instants, EACH seconds apart from the first page on."""

    def __init__(self, each: float) -> None:
        self._each, self._begun, self._count = each, 0.0, 0

    def _next(self, tx: Transaction, *, first: int = 0) -> float:
        """The next one; FIRST says which place has the first of all."""
        self._begun = self._begun or tx.now
        self._count += 1
        return self._begun + self._each * (self._count - 1 + first)

    def hasten(self, tx: Transaction, ids: list[int]) -> None:
        """Make due those of IDS that wait for their endpoint."""
        waiting = (
            sa.select(grants.c.id)
            .where(
                grants.c.id.in_(ids),
                grants.c.due_at > tx.now,
                grants.c.state != GrantState.PAUSED.value,
                grants.c.lease_holder.is_(None),
            )
            .order_by(grants.c.expires_at.nulls_first())
        )
        places = [
            {"grant": number, "instant": self._next(tx)}
            for number in tx.connection.scalars(waiting).all()
        ]
        hasten_each(tx, places)

    def single_out(self, tx: Transaction, ids: list[int]) -> list[Grant]:
        """Give those of IDS a state of their own that were refused as their client."""
        refused = grants.c.reason.like(f"{Reason.CLIENT_REJECTED}%")
        waiting = sa.and_(grants.c.id.in_(ids), grants.c.due_at.is_not(None), refused)
        found = []
        for before in read_all(tx.connection, tx.aside, waiting, grant_of):
            after = replace(
                before,
                reason=worded(Reason.NOT_AUTHORIZED, before.reason_detail),
                fault=Fault.GRANT,
                due_at=self._next(tx, first=1),
                revision=next_version(before.revision, tx.now),
            )
            update_all(tx, grants.c.id == after.id, status_values(after))
            found.append(after)
        return found

    def ask_lost(self, tx: Transaction, ids: Sequence[int]) -> list[str]:
        """Make due those of IDS that are lost still, in their order; their names."""
        rows = tx.connection.execute(
            sa.select(grants.c.id, grants.c.name, grants.c.client).where(
                grants.c.id.in_(ids), IS_LOST
            )
        ).all()
        rows = sorted(rows, key=lambda row: ids.index(row.id))
        places = [
            {"grant": row.id, "instant": self._next(tx), "refused_at": tx.now} for row in rows
        ]
        _ASK.run(tx.connection, places)
        note_each(tx, What.REFRESH_ORDERED, ((row.name, row.client) for row in rows))
        return [row.name for row in rows]


IS_LOST = sa.and_(
    grants.c.state == GrantState.REAUTHORIZATION_REQUIRED.value,
    grants.c.refresh_token_sealed.is_not(None),
)

_INSTANT = sa.bindparam("instant", type_=sa.Float)
_HASTEN = Prepared(
    sa.update(grants)
    .where(grants.c.id == sa.bindparam("grant"), grants.c.due_at > _INSTANT)
    .values(due_at=_INSTANT)
)
_ASK = Prepared(
    sa.update(grants)
    .where(grants.c.id == sa.bindparam("grant"))
    .values(due_at=_INSTANT, refused_at=sa.bindparam("refused_at"), refusals=0, failures=0)
)


def hasten_each(tx: Transaction, places: Sequence[Values]) -> None:
    """Make each "grant" of PLACES, an id, due at its "instant", unless it is due before.

    One that cannot be written is set aside.
    """
    if at_once(tx, partial(_HASTEN.run, tx.connection, places)) is not None:
        return
    for place in places:
        guarded(tx, place["grant"], partial(_HASTEN.run, tx.connection, [place]))


def find_lost(tx: Transaction, names: Sequence[str] | None, client: str | None) -> list[int]:
    """The ids of what was finally rejected, the one that was served last first."""
    conditions = [IS_LOST]
    if names is not None:
        conditions.append(grants.c.name.in_(names))
    if client is not None:
        conditions.append(grants.c.client == client)
    lost = sa.select(grants.c.id).where(*conditions)
    ordered = lost.order_by(grants.c.served_at.desc().nulls_last(), grants.c.name)
    return list(tx.connection.scalars(ordered))
