"""Reading and writing many rows of which one may be damaged.

One damaged row must not keep the others from being read, claimed or published. What
concerns one row sets that one aside; whatever concerns more is raised as ever.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from refresher.errors import GrantSetAside, VaultKeyError
from refresher.vault.aside import Aside
from refresher.vault.database import others_write
from refresher.vault.refusals import is_of_one_row
from refresher.vault.rows import Row, Transaction
from refresher.vault.schema import grants

T = TypeVar("T")
R = TypeVar("R", bound=Row)


def read_all(
    connection: Connection,
    aside: Aside,
    condition: sa.ColumnElement[bool],
    build: Callable[[sa.RowMapping], T],
    *,
    order: Sequence[sa.ColumnElement[Any]] = (grants.c.id,),
    limit: int | None = None,
) -> list[T]:
    """What BUILD makes of every row that meets CONDITION; what it cannot read is set aside."""
    sound = sa.and_(condition, grants.c.id.not_in(aside.ids))
    statement = _locked(connection, sa.select(grants).where(sound).order_by(*order).limit(limit))
    try:
        rows: Sequence[sa.RowMapping] = connection.execute(statement).mappings().all()
    except Exception as error:
        if not is_of_one_row(error):
            raise
        rows = _fetch_each(connection, aside, statement)
    return build_all(connection, aside, rows, build)


def build_all(
    connection: Connection, aside: Aside, rows: Sequence[R], build: Callable[[R], T]
) -> list[T]:
    """What BUILD makes of each of ROWS; what it cannot read is set aside."""
    built = []
    for row in rows:
        try:
            built.append(build(row))
        except Exception as error:
            if not _is_damage(error):
                raise
            aside.put(connection, row["id"], error)
    return built


def read_one(connection: Connection, condition: sa.ColumnElement[bool]) -> sa.RowMapping | None:
    """The one row that meets CONDITION.

    Raises:
        GrantSetAside: it is there and cannot be read.
    """
    statement = _locked(connection, sa.select(grants).where(condition))
    try:
        return connection.execute(statement).mappings().one_or_none()
    except Exception as error:
        if not is_of_one_row(error):
            raise
        raise GrantSetAside(f"its row cannot be read ({type(error).__name__})") from None


def guarded(tx: Transaction, number: int, work: Callable[[], T]) -> T | None:
    """Do WORK on the row NUMBER; None when it cannot be read or written, and is set aside."""
    savepoint = tx.connection.begin_nested()
    try:
        done = work()
    except VaultKeyError:
        savepoint.rollback()
        raise  # a lost key is told and mended in its own way
    except Exception as error:
        if not _is_damage(error):
            raise
        savepoint.rollback()
        tx.aside.put(tx.connection, number, error)
        return None
    savepoint.commit()
    return done


def at_once(tx: Transaction, work: Callable[[], T]) -> T | None:
    """Do WORK on many rows; None where one of them refuses it, and nothing of it was done."""
    savepoint = tx.connection.begin_nested()
    try:
        done = work()
    except DBAPIError as error:
        if not is_of_one_row(error):
            raise
        savepoint.rollback()
        return None
    savepoint.commit()
    return done


def update_all(tx: Transaction, condition: sa.ColumnElement[bool], values: Any) -> None:
    """Set VALUES in every row that meets CONDITION, except in those that cannot be written."""
    change = sa.update(grants).where(condition).values(values)
    if at_once(tx, partial(tx.connection.execute, change)) is not None:
        return
    for number in tx.connection.scalars(sa.select(grants.c.id).where(condition)).all():
        alone = change.where(grants.c.id == number)
        guarded(tx, number, partial(tx.connection.execute, alone))


def try_again(tx: Transaction, number: int, build: Callable[[sa.RowMapping], object]) -> str | None:
    """The name of the row NUMBER, set aside, if it can be read and written now."""

    def read_and_write() -> str | None:
        row = read_one(tx.connection, grants.c.id == number)
        if row is None:
            return None
        build(row)
        same = {column.name: column for column in grants.c if column.name != "id"}
        tx.connection.execute(sa.update(grants).where(grants.c.id == number).values(same))
        return str(row["name"])

    return guarded(tx, number, read_and_write)


def _locked(connection: Connection, statement: sa.Select[Any]) -> sa.Select[Any]:
    """STATEMENT, whose rows nobody else changes before this transaction has ended."""
    return statement.with_for_update() if others_write(connection) else statement


def _is_damage(error: Exception) -> bool:
    return isinstance(error, GrantSetAside) or is_of_one_row(error)


def _fetch_each(
    connection: Connection, aside: Aside, statement: sa.Select[Any]
) -> list[sa.RowMapping]:
    """The rows of STATEMENT one by one: slow, and only until the damaged one is known."""
    rows, damaged = [], 0
    numbers = connection.scalars(statement.with_only_columns(grants.c.id)).all()
    for number in numbers:
        try:
            alone = sa.select(grants).where(grants.c.id == number)
            rows.append(connection.execute(alone).mappings().one())
        except Exception as error:
            damaged += 1
            if not is_of_one_row(error) or (damaged == len(numbers) > 1):
                raise  # it is not about one row
            aside.put(connection, number, error)
    return rows
