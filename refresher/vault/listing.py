"""What people ask about many grants at once, read in turns that keep nobody waiting.

The thread that reads also tells whether a claim still holds, right before its request
leaves. So no question has it for long: one turn looks at no more than ``SCANNED`` rows and
builds no more than ``BUILT``, whatever the vault holds and whatever was asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.domain.grants import Grant, GrantState
from refresher.vault.aside import Aside, unopenable
from refresher.vault.reading import read_all
from refresher.vault.revocations import Parked, list_parked
from refresher.vault.rows import grant_of
from refresher.vault.schema import (
    DEGRADES_AT,
    IS_DEGRADING,
    IS_WORKED_ON,
    NOT_FRESH,
    grants,
    kept_answers,
    revocations,
    state_counts,
)

T = TypeVar("T")

LARGEST_PAGE = 500
"""Grants in one page at the most."""

BUILT = 100
"""Rows that one turn makes into grants: some 5 ms of an idle processor."""

SCANNED = 1_000
"""Rows that one turn looks at where an index does not answer all that was asked."""

TROUBLED = (
    GrantState.REAUTHORIZATION_REQUIRED,
    GrantState.PENDING,
    GrantState.PAUSED,
    GrantState.EXPIRED,
    GrantState.DEGRADED,
)
"""States that a person wants to see before ``fresh``."""


class Read(Protocol):
    """Runs an operation against the last committed state, in one turn of the thread that reads."""

    async def __call__(self, operation: Callable[[Connection], T]) -> T:
        """What OPERATION gives."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which grants are asked for: those in STATE, those of CLIENT, or both; None takes all."""

    state: GrantState | None = None
    client: str | None = None

    def takes(self, grant: Grant) -> bool:
        """Whether GRANT is one of them."""
        return self.state in {None, grant.state} and self.client in {None, grant.client}


@dataclass(frozen=True, slots=True)
class KeptCount:
    """The answers of one kind that are kept beside a grant; what is in them stays sealed."""

    kind: str
    count: int
    first_at: float
    last_at: float


@dataclass(frozen=True, slots=True)
class Details:
    """Everything the vault knows of one grant, its secrets aside."""

    grant: Grant
    granted_scope: str = ""
    is_out: bool = False
    """An exchange of it is under way."""
    claimed_by: str | None = None
    """The replica that made its last exchange, or makes it; None where nobody shares the vault."""
    kept: tuple[KeptCount, ...] = ()


class Listing:
    """The questions about many grants that an open vault answers.

    Each raises ``VaultUnavailable`` when the vault cannot be read.
    """

    def __init__(self, read: Read, aside: Aside) -> None:
        self._read, self._aside = read, aside

    async def grants(
        self, *, after: str = "", limit: int = LARGEST_PAGE, wanted: Wanted | None = None
    ) -> list[Grant]:
        """Up to LIMIT grants by name, from behind AFTER on; fewer only where no more follow."""
        asked, found = wanted or Wanted(), list[Grant]()
        cursor: str | None = after
        while cursor is not None and len(found) < limit:
            some, cursor = await self._turn(asked, cursor, min(limit - len(found), BUILT))
            found += some
        return found

    async def urgent(self, limit: int) -> list[Grant]:
        """Up to LIMIT grants of each kind of trouble, and of those whose tokens end next.

        In no order: how urgent each is, whoever shows them says.

        Args:
            limit: at most ``BUILT``.
        """
        found: dict[int, Grant] = {}
        for state in TROUBLED:
            of_state = await self.grants(limit=limit, wanted=Wanted(state))
            found |= {grant.id: grant for grant in of_state}
        for condition, order in _NEXT:
            first = partial(
                read_all,
                aside=self._aside,
                condition=condition,
                build=grant_of,
                order=[order],
                limit=limit,
            )
            of_kind: list[Grant] = await self._read(first)
            found |= {grant.id: grant for grant in of_kind if grant.id not in found}
        unopened = self._aside.shown_unopened
        return [unopenable(one) if one.id in unopened else one for one in found.values()]

    async def details(self, name: str) -> Details | None:
        """Everything known of the grant NAME, if there is one."""
        return await self._read(lambda c: find_details(c, self._aside, name))

    async def revocations(
        self, *, after: str = "", limit: int = LARGEST_PAGE, name: str | None = None
    ) -> list[Parked]:
        """What has still to be revoked of up to LIMIT grants by name, from behind AFTER on.

        Args:
            name: only of the grants that had this name.
        """
        return await self._read(lambda c: page_of_parked(c, after, limit, name))

    async def counts(self) -> dict[str, int]:
        """How many grants are in each state; one that no refresher knows is ``damaged``."""
        return await self._read(count)

    async def _turn(self, wanted: Wanted, after: str, limit: int) -> tuple[list[Grant], str | None]:
        return await self._read(lambda c: page(c, self._aside, wanted, after, limit))


_NEXT: Sequence[tuple[sa.ColumnElement[bool], sa.ColumnElement[Any]]] = (
    (sa.and_(IS_DEGRADING), DEGRADES_AT),
    (sa.and_(IS_WORKED_ON, grants.c.expires_at.is_not(None)), grants.c.expires_at),
    (sa.and_(IS_WORKED_ON, grants.c.expires_at.is_(None)), grants.c.expires_at),
)
"""Those that fail and are fresh still, and the rest by the end of its token; each by an index."""


def page(
    connection: Connection, aside: Aside, wanted: Wanted, after: str, limit: int
) -> tuple[list[Grant], str | None]:
    """One turn of a listing: up to LIMIT grants, and the name to go on behind; None at the end.

    Of those set aside it holds what can be said. It may be empty before the end.
    """
    unopened = aside.shown_unopened
    # Those that no key opens are shown in another state than the one in their row.
    asked = Wanted(client=wanted.client) if unopened else wanted
    ahead = sa.and_(_walked(asked), grants.c.name > after)
    last = _name_behind(connection, aside, ahead)
    within = ahead if last is None else sa.and_(ahead, grants.c.name <= last)
    found = read_all(
        connection,
        aside,
        sa.and_(within, *_asked(asked)),
        grant_of,
        order=[grants.c.name],
        limit=limit,
    )
    if len(found) == limit:
        last = found[-1].name
    shown = [unopenable(grant) if grant.id in unopened else grant for grant in found]
    shown += [one for one in aside.grants() if after < one.name <= (last or one.name)]
    shown = sorted(filter(wanted.takes, shown), key=lambda grant: grant.name)
    if len(shown) > limit:
        shown = shown[:limit]
        last = shown[-1].name
    return shown, last


def find_details(connection: Connection, aside: Aside, name: str) -> Details | None:
    """Everything known of the grant NAME, if there is one."""

    def build(row: sa.RowMapping) -> Details:
        grant = grant_of(row)
        return Details(
            unopenable(grant) if grant.id in aside.shown_unopened else grant,
            granted_scope=row["granted_scope"],
            is_out=row["lease_holder"] is not None,
            claimed_by=row["claimed_by"],
            kept=_kept(connection, grant.uid),
        )

    named = sa.and_(grants.c.name == name, grants.c.state != GrantState.REMOVED)
    found = read_all(connection, aside, named, build)
    found += [Details(grant) for grant in aside.grants() if grant.name == name]
    return found[0] if found else None


def page_of_parked(
    connection: Connection, after: str, limit: int, name: str | None
) -> list[Parked]:
    """What has still to be revoked of up to LIMIT grants by name, whole for each of them."""
    named = revocations.c.grant_name
    listed = sa.and_(revocations.c.due_at.is_not(None), named > after)
    if name is not None:
        listed = sa.and_(listed, named == name)
    names = connection.scalars(
        sa.select(named).where(listed).distinct().order_by(named).limit(limit)
    )
    return list_parked(connection, names=names.all())


def count(connection: Connection) -> dict[str, int]:
    """How many grants are in each state; one that no refresher knows is ``damaged``."""
    state = state_counts.c.state
    # What no refresher knows may not even be text.
    known = sa.case((state.in_([state.value for state in GrantState]), state), else_=None)
    # PostgreSQL sums to a number of any size.
    summed = sa.cast(sa.func.sum(state_counts.c.count), sa.BigInteger)
    rows = connection.execute(sa.select(known, summed).group_by(known))
    return {"damaged" if state is None else str(state): count for state, count in rows if count}


def _walked(wanted: Wanted) -> sa.ColumnElement[bool]:
    """What an index holds in the order of names, and nothing else, as far as one does."""
    if wanted.state not in {None, GrantState.FRESH}:
        return sa.and_(NOT_FRESH, grants.c.state == wanted.state)
    if wanted.client is not None:
        return grants.c.client == wanted.client
    return sa.true()


def _asked(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    """What must hold of a row, whichever index found it."""
    asked: list[sa.ColumnElement[bool]] = [grants.c.state != GrantState.REMOVED]
    if wanted.state is not None:
        asked.append(grants.c.state == wanted.state)
    if wanted.client is not None:
        asked.append(grants.c.client == wanted.client)
    return asked


def _name_behind(connection: Connection, aside: Aside, ahead: sa.ColumnElement[bool]) -> str | None:
    """The name of the last row AHEAD that this turn may look at; None where it reaches the end."""
    while True:
        sound = sa.and_(ahead, grants.c.id.not_in(aside.ids))
        last = sa.select(grants.c.id).where(sound).order_by(grants.c.name).offset(SCANNED).limit(1)
        number = connection.scalar(last)
        if number is None:
            return None
        for grant in read_all(connection, aside, grants.c.id == number, grant_of):
            return grant.name  # a damaged one is set aside now, and another is the last


def _kept(connection: Connection, uid: str) -> tuple[KeptCount, ...]:
    at = kept_answers.c.received_at
    counted = (
        sa.select(kept_answers.c.kind, sa.func.count(), sa.func.min(at), sa.func.max(at))
        .where(kept_answers.c.grant_uid == uid)
        .group_by(kept_answers.c.kind)
        .order_by(kept_answers.c.kind)
    )
    return tuple(KeptCount(*row) for row in connection.execute(counted))
