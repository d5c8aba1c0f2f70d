"""SQLAlchemy's words for PostgreSQL, with what a vault needs of a connection."""

from typing import Any

import sqlalchemy as sa
from psycopg.types.string import StrBinaryDumper, StrDumper
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from refresher.vault.postgresql.connection import ANSWERED_WITHIN, COMMITTED_WITHIN
from refresher.vault.postgresql.refusals import SEVERED

NAME = "refresher"


class _TextDumper(StrDumper):
    """Text as PostgreSQL can hold it: a NUL, which it cannot, never costs an answer."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))


class _BinaryTextDumper(StrBinaryDumper):
    """The same in arrays."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))


class VaultDialect(PGDialect_psycopg):
    """A connection begins its transactions itself, and ends them without a limit of time.

    psycopg is in autocommit mode: BEGIN goes with the settings of the transaction in one round
    trip.

    Attributes:
        begin: what begins a transaction.
    """

    supports_statement_cache = True
    begin = "BEGIN"

    def __init__(self, **options: Any) -> None:
        super().__init__(use_native_hstore=False, **options)  # type: ignore[no-untyped-call]  # of SQLAlchemy
        adapters: Any = self._psycopg_adapters_map
        if adapters is not None:
            adapters.register_dumper(str, _BinaryTextDumper)
            adapters.register_dumper(str, _TextDumper)  # the last one is the usual one

    def do_begin(self, dbapi_connection: Any) -> None:
        dbapi_connection.driver_connection.execute(self.begin)

    def do_commit(self, dbapi_connection: Any) -> None:
        # A limit that ends the wait for a synchronous standby has the commit reported as a success.
        connection = dbapi_connection.driver_connection
        connection.patience = COMMITTED_WITHIN
        connection.execute("SET LOCAL statement_timeout = 0; COMMIT")
        connection.patience = ANSWERED_WITHIN

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        if getattr(e, "sqlstate", None) in SEVERED:
            return True
        return bool(super().is_disconnect(e, connection, cursor))  # type: ignore[no-untyped-call]  # same


sa.dialects.registry.register(f"postgresql.{NAME}", __name__, VaultDialect.__name__)
