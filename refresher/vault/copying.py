"""Moving a vault out of its file into a database, row by row and as sealed as it is.

Every turn brings the rows of one stretch of a table to what they are in the file: it adds,
changes and removes. So a copy that was cut off is done again from its beginning, and writes only
what is missing. Until all was compared a mark keeps every daemon out of the database.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.domain.secret import Secret
from refresher.errors import VaultError, VaultKeyError
from refresher.vault.database import Database
from refresher.vault.keys import FINGERPRINT_KEY
from refresher.vault.rows import Sealer
from refresher.vault.schema import facts, grants, metadata, replicas, state_counts
from refresher.vault.sealed_cells import SEALED

BATCH = 200
"""Rows in one transaction."""

COPYING = "copying"
"""Fact of a database into which a vault is being copied: by what that vault is recognized."""

_TABLES = [one for one in metadata.sorted_tables if one not in {state_counts, replicas}]
"""What is copied: the counts are kept by triggers, and no replica lives in a file."""

Row = dict[str, Any]
Key = tuple[Any, ...]


@dataclass(slots=True)
class Copied:
    """What was done."""

    rows: int = 0
    written: int = 0
    """Of them, those that were not there yet."""
    opened: int = 0
    """Sealed values that were opened from the copy."""
    unopened: int = 0
    """Those that no key opens, in the file neither."""


@dataclass(frozen=True, slots=True)
class Copying:
    """The copy of one vault, which nobody writes to meanwhile.

    Args:
        sealer: of the vault that is copied.
        progress: is told of how many rows more were looked at.
        renumber: lets the copy go on to number rows behind those that it has.
    """

    source: Database
    target: Database
    sealer: Sealer
    progress: Callable[[int], None]
    renumber: Callable[[Connection, Sequence[str]], None]

    async def rows(self) -> int:
        """How many rows there are to copy, and then to compare."""
        counts = [sa.select(sa.func.count()).select_from(table) for table in _TABLES]
        found = await self.source.read(lambda c: [c.scalar(count) or 0 for count in counts])
        return 2 * sum(found)

    async def run(self) -> Copied:
        """Copy everything, then compare every row and open every sealed value of the copy.

        Raises:
            VaultError: the database holds another vault, or what was copied is not the same.
            VaultUnavailable: one of them refuses; the same command goes on.
        """
        copied, mark = Copied(), self.sealer.fingerprint(Secret(COPYING))
        await self.target.write(lambda c: _begin(c, mark))
        for table in _TABLES:
            await self._walk(table, copied, self._bring_over)
        named = [table.name for table in _TABLES if "id" in table.c]
        await self.target.write(lambda c: self.renumber(c, named))
        for table in _TABLES:
            await self._walk(table, copied, self._compare)
        return copied

    async def end(self) -> None:
        """Let daemons in."""
        mine = sa.delete(facts).where(facts.c.name == COPYING)
        await self.target.write(lambda c: c.execute(mine))

    async def _walk(
        self,
        table: sa.Table,
        copied: Copied,
        turn: Callable[[sa.Table, list[Row], Key | None, Key | None, Copied], Any],
    ) -> None:
        after: Key | None = None
        while True:
            stretch = _stretch(table, after, None).limit(BATCH)
            rows = await self.source.read(partial(_read, wanted=stretch))
            last = _key(table, rows[-1]) if len(rows) == BATCH else None
            await turn(table, rows, after, last, copied)
            self.progress(len(rows))
            if last is None:
                return
            after = last

    async def _bring_over(
        self, table: sa.Table, rows: list[Row], after: Key | None, last: Key | None, copied: Copied
    ) -> None:
        copied.rows += len(rows)
        copied.written += await self.target.write(lambda c: _bring(c, table, rows, after, last))

    async def _compare(
        self, table: sa.Table, rows: list[Row], after: Key | None, last: Key | None, copied: Copied
    ) -> None:
        there = await self.target.read(lambda c: _read(c, _stretch(table, after, last)))
        if there != rows:
            raise VaultError(
                f"the copy of {table.name} is not what is in the file: run the command again, and "
                "see that nothing else writes to the database"
            )
        for row in there:
            self._open(table, row, copied)

    def _open(self, table: sa.Table, row: Row, copied: Copied) -> None:
        for cell in SEALED:
            if cell.column.table is not table or row[cell.column.name] is None:
                continue
            try:
                cell.renew(self.sealer, row)
            except VaultKeyError:
                copied.unopened += 1
            else:
                copied.opened += 1


def refuse_unfinished(connection: Connection) -> None:
    """Raise ``VaultError`` where a copy into this database has not come to its end."""
    if connection.scalar(sa.select(facts.c.name).where(facts.c.name == COPYING)) is not None:
        raise VaultError(
            "a vault is being copied into this database: see `refresher vault copy` through first"
        )


def _begin(connection: Connection, mark: bytes) -> None:
    known = {row.name: row.value for row in connection.execute(sa.select(facts))}
    is_used = FINGERPRINT_KEY in known or connection.scalar(sa.select(grants.c.id).limit(1))
    if COPYING not in known and is_used:
        raise VaultError("the database holds a vault already: name an empty one")
    if known.get(COPYING, mark) != mark:
        raise VaultError("another vault was begun to be copied into this database: empty it first")
    if COPYING not in known:
        connection.execute(sa.insert(facts).values(name=COPYING, value=mark))


def _bring(
    connection: Connection, table: sa.Table, rows: list[Row], after: Key | None, last: Key | None
) -> int:
    """Bring the stretch from behind AFTER to LAST to what ROWS are; how many were written."""
    there = {_key(table, row): row for row in _read(connection, _stretch(table, after, last))}
    wanted = {_key(table, row): row for row in rows}
    outdated = [key for key, row in there.items() if wanted.get(key) != row]
    for key in outdated:
        connection.execute(sa.delete(table).where(*_is(table, key)))
    missing = [row for key, row in wanted.items() if there.get(key) != row]
    if missing:
        connection.execute(sa.insert(table), missing)
    return len(missing)


def _stretch(table: sa.Table, after: Key | None, last: Key | None) -> sa.Select[Any]:
    """The rows of TABLE behind the key AFTER up to LAST, in the order of their keys."""
    columns = list(table.primary_key.columns)
    place = sa.tuple_(*columns)
    found = sa.select(table).order_by(*columns)
    if table is facts:
        found = found.where(facts.c.name != COPYING)
    if after is not None:
        found = found.where(place > sa.tuple_(*_bound(table, after)))
    if last is not None:
        found = found.where(place <= sa.tuple_(*_bound(table, last)))
    return found


def _bound(table: sa.Table, key: Key) -> list[sa.ColumnElement[Any]]:
    columns = table.primary_key.columns
    return [sa.literal(value, column.type) for column, value in zip(columns, key, strict=True)]


def _is(table: sa.Table, key: Key) -> list[sa.ColumnElement[bool]]:
    return [column == one for column, one in zip(table.primary_key.columns, key, strict=True)]


def _key(table: sa.Table, row: Mapping[str, Any]) -> Key:
    return tuple(row[column.name] for column in table.primary_key.columns)


def _read(connection: Connection, wanted: sa.Select[Any]) -> list[Row]:
    """The rows WANTED; PostgreSQL holds no NUL in a text."""
    return [
        {
            name: value.replace("\0", "\N{REPLACEMENT CHARACTER}")
            if isinstance(value, str)
            else value
            for name, value in row.items()
        }
        for row in connection.execute(wanted).mappings()
    ]
