"""Statements of the way that every refresh takes: compiled once, then text for the driver.

SQLAlchemy writes them, in one set for every database. What it does at each execution (a key
for its cache, parameters and rows in types of its own) costs many times what the database
needs, and is left out here: rows come as the driver gives them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.exc import DBAPIError

Values = Mapping[str, Any]


class Prepared:
    """One statement whose parameters the driver takes as they are."""

    def __init__(self, statement: sa.Executable) -> None:
        self._statement = statement
        self._compiled = cache(self._compile)

    def rows(self, connection: Connection, values: Values) -> list[Any]:
        """The rows that it gives with VALUES."""
        text, known = self._compiled(connection.dialect)
        cursor = connection.connection.cursor()
        try:
            cursor.execute(text, _given(connection, known, values))
            return list(cursor.fetchall())
        except Exception as error:
            raise _worded(connection, text, error) from error
        finally:
            cursor.close()

    def run(self, connection: Connection, many: Sequence[Values]) -> int:
        """Run it with each of MANY; how many rows were changed together."""
        text, known = self._compiled(connection.dialect)
        cursor = connection.connection.cursor()
        try:
            cursor.executemany(text, [_given(connection, known, values) for values in many])
            return int(cursor.rowcount)
        except Exception as error:
            raise _worded(connection, text, error) from error
        finally:
            cursor.close()

    def _compile(self, dialect: Dialect) -> tuple[str, list[tuple[str, Any]]]:
        """Its text, and its parameters in order with what each is if nobody says otherwise."""
        compiled = self._statement.compile(dialect=dialect)  # type: ignore[attr-defined]  # every one
        names = compiled.positiontup or list(compiled.params)
        return str(compiled), [(name, compiled.params[name]) for name in names]


class ForEach:
    """A change of one row, for many rows at once.

    PostgreSQL plans each statement that it gets, which costs it and us more than the change. So
    there it is one for all of them, which joins the rows with arrays of what they are given.

    Args:
        change: makes it of what is given to a row, by name.
        types: of what is given.
    """

    def __init__(
        self,
        change: Callable[[Mapping[str, sa.ColumnElement[Any]]], sa.Update],
        types: Mapping[str, sa.types.TypeEngine[Any]],
    ) -> None:
        self._each = Prepared(
            change({name: sa.bindparam(name, type_=known) for name, known in types.items()})
        )
        self._change, self._types = change, types
        self._at_once = cache(self._joined)

    def run(self, connection: Connection, many: Sequence[Values]) -> int:
        """Run it with each of MANY, all of which name the same; how many rows were changed.

        Of several that mean one row only one counts.
        """
        if connection.dialect.name != "postgresql":
            return self._each.run(connection, many)
        arrays = {
            name: [_as_float(one[name]) for one in many]
            if isinstance(known, sa.Float)
            else [one[name] for one in many]
            for name, known in self._types.items()
        }
        text = self._at_once(connection.dialect)
        cursor = connection.connection.cursor()
        try:
            cursor.execute(text, arrays)
            return int(cursor.rowcount)
        except Exception as error:
            raise _worded(connection, text, error) from error
        finally:
            cursor.close()

    def _joined(self, dialect: Dialect) -> str:
        # Of no length: a cast to one would cut off what is longer.
        types = {
            name: sa.String() if isinstance(known, sa.String) else known
            for name, known in self._types.items()
        }
        arrays = [sa.bindparam(name, type_=sa.ARRAY(known)) for name, known in types.items()]
        columns = [sa.column(name, known) for name, known in types.items()]
        given = sa.func.unnest(*arrays).table_valued(*columns)
        change = self._change(dict(given.render_derived("given").c))
        # In psycopg's binary format: text takes it hundreds of times as long for bytes.
        return str(change.compile(dialect=dialect)).replace(")s::", ")b::")


def _as_float(value: float | None) -> float | None:
    """An array is of one type."""
    return None if value is None else float(value)


def adding_to(table: sa.Table) -> Prepared:
    """Adds rows to TABLE, which the database numbers by itself."""
    named = [column.name for column in table.c if column.name != "id"]
    return Prepared(sa.insert(table).values({name: sa.bindparam(name) for name in named}))


class ForSome:
    """A statement about some rows, prepared for as many as there are, rounded up.

    Args:
        build: makes it for so many parameters, which it gets.
        kind: what the parameters are.
    """

    def __init__(
        self,
        build: Callable[[Sequence[sa.BindParameter[Any]]], sa.Executable],
        kind: type[sa.types.TypeEngine[Any]] = sa.BigInteger,
    ) -> None:
        self._build, self._kind = build, kind
        self._prepared = cache(self._prepare)

    def rows(self, connection: Connection, some: Sequence[Any], values: Values) -> list[Any]:
        """The rows that it gives for SOME, of which there is at least one."""
        size = 1 << (len(some) - 1).bit_length()
        padded = [*some, *([some[-1]] * (size - len(some)))]
        named = {f"some_{place}": one for place, one in enumerate(padded)}
        return self._prepared(size).rows(connection, {**values, **named})

    def _prepare(self, size: int) -> Prepared:
        return Prepared(
            self._build([sa.bindparam(f"some_{n}", type_=self._kind) for n in range(size)])
        )


def _given(connection: Connection, known: Sequence[tuple[str, Any]], values: Values) -> Any:
    """The parameters KNOWN as the driver takes them: in their order, or by their names."""
    if connection.dialect.positional:
        return [values.get(name, usual) for name, usual in known]
    return {name: values.get(name, usual) for name, usual in known}


def _worded(connection: Connection, text: str, error: Exception) -> Exception:
    """ERROR in SQLAlchemy's words, where it is the driver's."""
    driver = connection.dialect.loaded_dbapi
    if not isinstance(error, driver.Error):
        return error
    return DBAPIError.instance(text, None, error, driver.Error, hide_parameters=True)
