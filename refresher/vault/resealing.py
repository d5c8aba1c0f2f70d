"""Everything sealed, brought under the newest key and into the newest format, and counted.

The daemon does it at its start, after a new key and after SIGHUP, beside all its other work:
a batch is opened and sealed anew in the thread that reads, then stored by compare-and-swap.
A cell that an exchange, a login or another process has written meanwhile stays as that one
wrote it: to put back what was read before would bring a spent refresh token back. Wherever a
process dies, each cell opens with one of the keys in the file, and the next process goes on.

A vault of the first format may hold cells of it until none is left. Then its fingerprint key
is sealed in the newest format, last of all, and from that commit on whatever is of the first
format was put there by somebody.

On SQLite one daemon has the vault, and a standby reads the key file when it takes over.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import anyio
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from refresher.errors import VaultKeyError, VaultUnavailable
from refresher.logs import Event, emit
from refresher.vault import client_records, kept, keys, logins, revocations
from refresher.vault.reading import guarded, read_all
from refresher.vault.refusals import is_of_one_row
from refresher.vault.rescued import Rescued
from refresher.vault.rows import CELLS, Row, Run, Sealer, Transaction
from refresher.vault.schema import client_records as records
from refresher.vault.schema import grants, kept_answers
from refresher.vault.schema import logins as under_way
from refresher.vault.schema import revocations as parked
from refresher.vault.sealed_counts import (
    SealedUnder,
    by_key,
    count,
    mark_of,
)
from refresher.vault.sealing import FIRST_FORMAT, MARK_BYTES

BATCH = 64
"""Cells sealed anew in one commit: some 5 ms of the thread that reads."""

SCANNED = 1_000
"""Rows that one turn looks at for them: a start looks at all there are, and finds none."""

RESTS_FOR = 1.0
"""How many times as long as a turn took the pass rests: it is in no hurry."""

RETRIED_AFTER = 5.0
"""Seconds after which a vault that refused is tried again."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """One cell that is not under the newest key, or not of the newest format."""

    number: int
    """The id of its row."""
    old: bytes
    new: bytes | None
    """None where no key opens it."""


@dataclass(frozen=True)
class _Cell:
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


@dataclass(slots=True)
class _Pass:
    """What one pass over everything has found."""

    done: int = 0
    missed: int = 0
    """Cells that somebody else wrote meanwhile."""
    unopened: int = 0
    spoilt: int = 0
    """Of the unopened, those of the first format that no key will ever open: altered ones."""


class Resealing:
    """The keys of an open vault, and the work of bringing everything under the newest."""

    def __init__(self, write: Run, read: Run, sealer: Sealer, rescued: Rescued) -> None:
        self._write, self._read = write, read
        self._sealer, self._rescued = sealer, rescued
        self._one_at_a_time = anyio.Lock()
        self._wanted = anyio.Event()
        self._told_unopened = 0
        self._is_asked = False

    @property
    def is_due(self) -> bool:
        """Whether something was asked for that is not done yet."""
        return self._is_asked or self._one_at_a_time.statistics().locked

    async def run(self) -> None:
        """Reseal now, and whenever the keys have changed, for ever."""
        while True:
            self._wanted = anyio.Event()
            try:
                await self.reseal()
            except VaultUnavailable:  # told as an outage
                await anyio.sleep(RETRIED_AFTER)
            else:
                await self._wanted.wait()

    async def rotate(self) -> str:
        """Bring a new key into the key file and let it seal; its id. ``run`` does the rest.

        Raises:
            VaultKeyError: the key file cannot be written, or read.
        """
        keyring = self._sealer.keyring
        key_id = await self._read(lambda tx: keys.bring_in(tx.connection, keyring))
        emit(Event.VAULT_KEY_ADDED, key_id=key_id)
        self.request()
        return key_id

    async def read_again(self) -> None:
        """Let the key file count as it is now.

        Raises:
            VaultKeyError: it cannot be used; the keys stay what they were.
        """
        keyring = self._sealer.keyring
        before = keyring.ids
        await self._read(lambda tx: keys.read_again(tx.connection, keyring))
        if keyring.ids != before:
            self.request()

    async def reseal(self) -> None:
        """Bring everything under the newest key that another opens.

        Raises:
            VaultUnavailable: what is left can be done later.
        """
        async with self._one_at_a_time:
            self._is_asked = False
            try:
                count, last = await self._pass_until_done()
            except VaultUnavailable:
                self._is_asked = True
                raise
        if count:
            key_id = self._sealer.keyring.mark[1:].hex()
            emit(Event.VAULT_RESEALED, count=count, key_id=key_id)
        unopened = last.unopened + len(self._rescued.unopened)
        if unopened > self._told_unopened:
            emit(Event.VAULT_UNOPENED, count=unopened)
        self._told_unopened = unopened

    async def status(self) -> list[SealedUnder]:
        """What is sealed under each key: those of the file in its order, then unknown ones.

        Raises:
            VaultKeyError: the key file cannot be used as it is now.
        """
        await self.read_again()
        rescued = await self._rescued.marks()
        found = await self._read(count)
        for mark in rescued:
            found["rescued answers", mark] = found.get(("rescued answers", mark), 0) + 1
        return by_key(found, self._sealer.keyring.ids)

    def request(self) -> None:
        """Have ``run`` look again for what is to be sealed anew."""
        self._is_asked = True
        self._wanted.set()

    async def _pass_until_done(self) -> tuple[int, _Pass]:
        """Go over everything until nothing is left to do; how much was done, and the last pass."""
        count = 0
        while True:
            last = await self._pass()
            count += last.done
            if not last.done and not last.missed:
                return count + await self._store_fact(last.spoilt), last

    async def _pass(self) -> _Pass:
        """Go once over all that is sealed."""
        passed = _Pass()
        for cell in SEALED:
            after, last = 0, await self._read(partial(_last, cell=cell))
            while after < last:
                began = anyio.current_time()
                batch = await self._read(partial(_outdated, cell=cell, after=after))
                after = batch[-1].number if len(batch) == BATCH else after + SCANNED
                new = [one for one in batch if one.new is not None]
                done = await self._write(partial(store, cell=cell, batch=new)) if new else 0
                passed.done += done
                passed.missed += len(new) - done
                self._count_unopened(passed, batch)
                # The thread that reads has claims and publications to serve meanwhile.
                await anyio.sleep(RESTS_FOR * (anyio.current_time() - began))
        passed.done += await self._rescued.reseal(self._sealer.keyring.mark)
        return passed

    def _count_unopened(self, passed: _Pass, batch: list[Renewed]) -> None:
        for one in batch:
            if one.new is None:
                passed.unopened += 1
                is_known = one.old[1:MARK_BYTES] in self._sealer.keyring.ids
                passed.spoilt += is_known and one.old[:1] == FIRST_FORMAT

    async def _store_fact(self, spoilt: int) -> int:
        """Bring the fingerprint key under the newest key, and after all else to its format."""
        keyring = self._sealer.keyring
        is_last = True
        if keyring.accepts_first:
            # A key that is put back must still open what is left.
            rescued = (mark[:1] == FIRST_FORMAT for mark in self._rescued.unopened.values())
            is_last = not any(rescued) and await self._read(_of_first_format) <= spoilt
        stored = await self._write(
            lambda tx: keys.reseal_fingerprint_key(tx.connection, keyring, is_last=is_last)
        )
        keyring.accepts_first = not is_last
        return stored


def store(tx: Transaction, cell: _Cell, batch: list[Renewed]) -> int:
    """Write a BATCH of cells, each unless it was written meanwhile; how many were."""
    values = [{"number": one.number, "old": one.old, "new": one.new} for one in batch]
    savepoint = tx.connection.begin_nested()
    try:
        done = tx.connection.execute(cell.swap, values).rowcount
    except DBAPIError as error:
        if cell.column.table is not grants or not is_of_one_row(error):
            raise
        savepoint.rollback()
    else:
        savepoint.commit()
        return done
    done = 0
    for one, value in zip(batch, values, strict=True):
        swapped = guarded(tx, one.number, partial(tx.connection.execute, cell.swap, value))
        done += 0 if swapped is None else swapped.rowcount
    return done


def _last(tx: Transaction, cell: _Cell) -> int:
    """The last row that has such a cell; what is added behind it is sealed by the newest key."""
    return tx.connection.scalar(sa.select(sa.func.max(cell.number))) or 0


def _outdated(tx: Transaction, cell: _Cell, after: int) -> list[Renewed]:
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


def _of_first_format(tx: Transaction) -> int:
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
    *(_Cell(grants.c[name], _renew_grant(name)) for name in CELLS),
    _Cell(kept_answers.c.sealed, _renew_kept),
    _Cell(parked.c.sealed, _renew_parked),
    _Cell(records.c.sealed, _renew_client_record),
    _Cell(under_way.c.sealed, _renew_login),
)
"""Every sealed column there is, but for the fingerprint key's."""
