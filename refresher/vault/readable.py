"""The tokens that consumers can read, soonest end first: what Redis has to have back first.

A flushed Redis is filled from here at tens of thousands of tokens a second. So nothing is read
but what a token key shows, by the indexes on the ends of tokens, and each row is checked in one
look at the types of its values. What is odd about a row is left to the walk over everything that
follows.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import product
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from refresher.domain.grants import Grant, GrantKind, GrantState, Publication
from refresher.domain.readable import Page, Shown, Versions
from refresher.errors import VaultKeyError
from refresher.vault.aside import Aside
from refresher.vault.listing import Read
from refresher.vault.prepared import Prepared
from refresher.vault.refusals import is_of_one_row
from refresher.vault.rows import LARGEST_NUMBER, LATEST, Sealer
from refresher.vault.schema import IS_WORKED_ON, WAITS_FOR_A_PERSON, grants

_COLUMNS = (
    *(grants.c.id, grants.c.expires_at, grants.c.uid, grants.c.name, grants.c.kind),
    *(grants.c.client, grants.c.state, grants.c.labels, grants.c.authorization_serial),
    *(grants.c.version, grants.c.token_type, grants.c.granted_scope, grants.c.issued_at),
    grants.c.token_sealed,
)
_NAMES = [column.name for column in _COLUMNS]

_LABELS = _NAMES.index("labels")
_SHOWN = ("id", "uid", "name", "client", "version", "issued_at", "expires_at")
_SHOWN_OF = itemgetter(*map(_NAMES.index, _SHOWN))
_TYPES: Mapping[type[sa.types.TypeEngine[Any]], tuple[type, ...]] = {
    sa.BigInteger: (int,),
    sa.Integer: (int,),
    sa.Float: (float, int),
    sa.String: (str,),
    sa.LargeBinary: (bytes,),
    sa.JSON: (str, dict),
}
_SOUND = frozenset(
    product(
        *(
            (*_TYPES[type(column.type)], *([type(None)] if column.nullable else []))
            for column in _COLUMNS
        )
    )
)
"""The types that the values of a row may have, all together."""

_KINDS = {kind.value: kind for kind in GrantKind}
_STATES = {state.value: state for state in GrantState}
_NOBODY = Grant(
    id=0,
    uid="",
    name="",
    kind=GrantKind.REFRESHABLE,
    client=None,
    origin="",
    state=GrantState.FRESH,
)
_NO_LABELS: Mapping[str, str] = {}


class Readable:
    """Reads them page by page from an open vault."""

    def __init__(self, read: Read, sealer: Sealer, aside: Aside) -> None:
        self._read, self._sealer, self._aside = read, sealer, aside

    async def __call__(self, after: Shown, limit: int) -> Page:
        """Up to LIMIT readable tokens from behind AFTER on.

        Raises:
            VaultUnavailable: the vault cannot be read.
        """
        return await self._read(lambda c: read_page(c, self._sealer, self._aside, after, limit))

    async def versions(self, after: Shown, limit: int) -> Versions:
        """Which versions up to LIMIT of them have.

        Raises:
            VaultUnavailable: the vault cannot be read.
        """
        return await self._read(lambda c: read_versions(c, self._aside, after, limit))


Column = sa.ColumnElement[Any]

_ENDS_AT = sa.bindparam("ends_at", type_=sa.Float)
_BEHIND = grants.c.id > sa.bindparam("after", type_=sa.BigInteger)


class _InOrder:
    """The readable tokens, soonest end first, with COLUMNS, of which id and end are the first.

    Very many may end in the same second, of one import for example: the rest of them is found
    by id. A comparison of both at once would look through all of them again for each page.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._at_the_same_time = self._where(grants.c.expires_at == _ENDS_AT, _BEHIND)
        self._later = self._where(grants.c.expires_at > _ENDS_AT)
        self._never = self._where(grants.c.expires_at.is_(None), _BEHIND)

    def rows(self, connection: Connection, after: Shown, limit: int) -> list[Any]:
        """Up to LIMIT of them from behind AFTER on."""
        rows: list[Any] = []
        if after.ends_at is not None:
            ended = {"ends_at": after.ends_at, "after": after.id}
            rows = self._at_the_same_time.rows(connection, ended | {"limit": limit})
            if len(rows) < limit:
                rows += self._later.rows(connection, ended | {"limit": limit - len(rows)})
        if len(rows) < limit:
            known = after.id if after.ends_at is None else 0
            rows += self._never.rows(connection, {"after": known, "limit": limit - len(rows)})
        return rows

    def _where(self, *conditions: sa.ColumnElement[bool]) -> Prepared:
        """Whichever of the two indexes holds them.

        Each gives no more than are wanted: PostgreSQL would sort all that both have otherwise.
        """
        limit = sa.bindparam("limit", type_=sa.Integer)
        found = [
            sa.select(*self._columns)
            .where(states, grants.c.token_sealed.is_not(None), *conditions)
            .order_by(grants.c.expires_at, grants.c.id)
            .limit(limit)
            .subquery()
            for states in (IS_WORKED_ON, WAITS_FOR_A_PERSON)
        ]
        merged = sa.union_all(*map(sa.select, found)).order_by(sa.text("expires_at, id"))
        return Prepared(merged.limit(limit))


_WHOLE = _InOrder(_COLUMNS)
_VERSIONS = _InOrder((grants.c.id, grants.c.expires_at, grants.c.name, grants.c.version))


def read_page(
    connection: Connection, sealer: Sealer, aside: Aside, after: Shown, limit: int
) -> Page:
    """Up to LIMIT readable tokens from behind AFTER on."""
    try:
        rows = _WHOLE.rows(connection, after, limit)
    except DBAPIError as error:
        if not is_of_one_row(error):
            raise
        return Page([], None)  # the walk finds out which, and publishes the others
    left_out = {*aside.ids, *aside.unopened}
    found = [_publication(row, sealer) for row in rows if row[0] not in left_out]
    return Page([one for one in found if one is not None], _last_of(rows, limit))


def read_versions(connection: Connection, aside: Aside, after: Shown, limit: int) -> Versions:
    """Which versions up to LIMIT readable tokens from behind AFTER on have."""
    try:
        rows = _VERSIONS.rows(connection, after, limit)
    except DBAPIError as error:
        if not is_of_one_row(error):
            raise
        return Versions({}, None)  # as above
    left_out = {*aside.ids, *aside.unopened}
    found = {
        name: version
        for number, _, name, version in rows
        if type(name) is str and type(version) is int and number not in left_out
    }
    return Versions(found, _last_of(rows, limit))


def _last_of(rows: Sequence[Any], limit: int) -> Shown | None:
    return None if len(rows) < limit else Shown(rows[-1][1], rows[-1][0])


def _publication(row: Any, sealer: Sealer) -> Publication | None:
    """What the token key of ROW shows; None where anything of it is odd."""
    if tuple(map(type, row)) not in _SOUND:
        return None
    values = dict(zip(_NAMES, row, strict=True))
    shown = dict(zip(_SHOWN, _SHOWN_OF(row), strict=True))
    try:
        labels = row[_LABELS]
        if isinstance(labels, str):  # PostgreSQL's driver has read it already
            labels = _NO_LABELS if labels == "{}" else json.loads(labels)
        shown["labels"] = labels
        shown["kind"], shown["state"] = _KINDS[values["kind"]], _STATES[values["state"]]
        access_token, extras = sealer.access_token(values)
    except (VaultKeyError, ValueError, LookupError, TypeError):
        return None
    is_known = 0 <= values["version"] < LARGEST_NUMBER and isinstance(labels, dict)
    if not is_known or max(abs(values["issued_at"] or 0), abs(values["expires_at"] or 0)) >= LATEST:
        return None
    return Publication(
        grant=_NOBODY.but(**shown),
        access_token=access_token,
        token_type=values["token_type"],
        scope=values["granted_scope"],
        extras=extras,
    )
