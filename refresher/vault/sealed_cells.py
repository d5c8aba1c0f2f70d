"""The cells of the vault that are sealed, and how those that are outdated are sealed anew."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import sqlalchemy as sa

from refresher.errors import VaultKeyError
from refresher.vault import client_records, kept, logins, revocations
from refresher.vault.reading import at_once, guarded, read_all
from refresher.vault.rows import CELLS, Row, Sealer, Transaction
from refresher.vault.schema import client_records as records
from refresher.vault.schema import grants, kept_answers
from refresher.vault.schema import logins as under_way
from refresher.vault.schema import revocations as parked
from refresher.vault.sealed_counts import mark_of
from refresher.vault.sealing import FIRST_FORMAT

BATCH = 64
"""Cells sealed anew in one commit: some 5 ms of the thread that reads."""

SCANNED = 1_000
"""Rows that one turn looks at for them: a start looks at all there are, and finds none."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """One cell that is not under the key that seals, or not of the newest format."""

    number: int
    """The id of its row."""
    old: bytes
    new: bytes | None
    """None where no key opens it."""


@dataclass(frozen=True)
class Cell:
    """A sealed column, and how what is in it is sealed anew."""

    column: sa.Column[bytes]
    renew: Callable[[Sealer, Row], bytes]

    @property
    def number(self) -> sa.Column[int]:
        """The ids of its table."""
        number: sa.Column[int] = self.column.table.c.id
        return number

    @cached_property
    def swap(self) -> sa.Update:
        """Put a new value in the place of the one that was read, if that is still there."""
        change = sa.update(self.column.table).values({self.column: sa.bindparam("new")})
        was = self.column == sa.bindparam("old")
        return change.where(self.number == sa.bindparam("number"), was)


def store(tx: Transaction, cell: Cell, batch: list[Renewed]) -> int:
    """Write a BATCH of cells, each unless it was written meanwhile; how many were."""
    values = [{"number": one.number, "old": one.old, "new": one.new} for one in batch]

    def swap_all() -> int:
        return tx.connection.execute(cell.swap, values).rowcount

    if cell.column.table is not grants:
        return swap_all()
    if (swapped_all := at_once(tx, swap_all)) is not None:
        return swapped_all
    done = 0
    for one, value in zip(batch, values, strict=True):
        swapped = guarded(tx, one.number, partial(tx.connection.execute, cell.swap, value))
        done += 0 if swapped is None else swapped.rowcount
    return done


def last(tx: Transaction, cell: Cell) -> int:
    """The last row that has such a cell; what is added behind the key that seals has sealed."""
    return tx.connection.scalar(sa.select(sa.func.max(cell.number))) or 0


def outdated(tx: Transaction, cell: Cell, after: int) -> list[Renewed]:
    """The next cells behind the row AFTER that are to be sealed anew, and what they become."""
    condition = sa.and_(
        cell.column.is_not(None),
        mark_of(cell.column) != tx.sealer.keyring.mark,
        cell.number > after,
        cell.number <= after + SCANNED,
    )

    def build(row: sa.RowMapping) -> Renewed:
        old = row[cell.column.name]
        try:
            return Renewed(row["id"], old, cell.renew(tx.sealer, row))
        except VaultKeyError:
            return Renewed(row["id"], old, None)

    if cell.column.table is grants:
        return read_all(tx.connection, tx.aside, condition, build, limit=BATCH)
    statement = sa.select(cell.column.table).where(condition).order_by(cell.number).limit(BATCH)
    return [build(row) for row in tx.connection.execute(statement).mappings()]


def of_first_format(tx: Transaction) -> int:
    """How many cells are of the first format, whoever can read their rows."""
    counts = (
        tx.connection.scalar(
            sa.select(sa.func.count()).where(mark_of(cell.column, length=1) == FIRST_FORMAT)
        )
        for cell in SEALED
    )
    return sum(number or 0 for number in counts)


def _renew_kept(sealer: Sealer, row: Row) -> bytes:
    place = kept.place_of(row)
    return sealer.keyring.seal(sealer.keyring.open(row["sealed"], place), place)


def _renew_parked(sealer: Sealer, row: Row) -> bytes:
    place = revocations.place_of(row)
    return sealer.keyring.seal(sealer.keyring.open(row["sealed"], place), place)


def _renew_grant(name: str) -> Callable[[Sealer, Row], bytes]:
    return lambda sealer, row: sealer.renewed(row, name)


def _renew_client_record(sealer: Sealer, row: Row) -> bytes:
    place = client_records.place_of(row)
    return sealer.keyring.seal(sealer.keyring.open(row["sealed"], place), place)


def _renew_login(sealer: Sealer, row: Row) -> bytes:
    place = logins.place_of(row)
    return sealer.keyring.seal(sealer.keyring.open(row["sealed"], place), place)


SEALED = (
    *(Cell(grants.c[name], _renew_grant(name)) for name in CELLS),
    Cell(kept_answers.c.sealed, _renew_kept),
    Cell(parked.c.sealed, _renew_parked),
    Cell(records.c.sealed, _renew_client_record),
    Cell(under_way.c.sealed, _renew_login),
)
"""Every sealed column there is, but for the fingerprint key's."""
