"""The vault's tables as PostgreSQL has them.

One schema for both databases, and three things are its own: text has no longest length, which
SQLite never minded, and is ordered by its bytes as in Python; and the counts of states are kept
in several places, so that replicas wait for no other's commit at them.
"""

import math
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.vault.schema import DEGRADES_AT, IS_DEGRADING, metadata

UPGRADING = 0x7265_6672
"""The advisory lock of whoever makes or migrates tables: replicas that start at once do so one
after the other."""

_COUNT = """
CREATE FUNCTION count_states() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO state_counts AS known (state, place, count)
            VALUES (OLD.state, mod(pg_backend_pid(), 64), -1)
            ON CONFLICT (state, place) DO UPDATE SET count = known.count - 1;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO state_counts AS known (state, place, count)
            VALUES (NEW.state, mod(pg_backend_pid(), 64), 1)
            ON CONFLICT (state, place) DO UPDATE SET count = known.count + 1;
    END IF;
    RETURN NULL;
END $$
"""
"""Among 64 rows the count of one state is spread, by the backend that counts."""

_DEGRADING = f"CREATE INDEX ix_grants_degrading ON grants (({DEGRADES_AT})) WHERE {IS_DEGRADING}"
"""An expression stands in parentheses of its own here."""

_TRIGGERS = """
CREATE TRIGGER counts_added AFTER INSERT OR DELETE ON grants
    FOR EACH ROW EXECUTE FUNCTION count_states();
CREATE TRIGGER counts_moved AFTER UPDATE OF state ON grants
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION count_states()
"""

_OWN = """
ALTER TABLE state_counts ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
ALTER TABLE state_counts DROP CONSTRAINT pk_state_counts;
ALTER TABLE state_counts ADD CONSTRAINT pk_state_counts PRIMARY KEY (state, place);
-- Nearly every row is written anew many times a day.
ALTER TABLE grants SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE facts SET (fillfactor = 50);
ALTER TABLE state_counts SET (fillfactor = 50)
"""


def create(connection: Connection) -> None:
    """Make the tables of a new vault."""
    own().create_all(connection, checkfirst=False)
    for statements in (_OWN, _COUNT, _TRIGGERS, _DEGRADING):
        connection.exec_driver_sql(statements)


def own() -> sa.MetaData:
    """The tables as they are made here."""
    tables = sa.MetaData(naming_convention=metadata.naming_convention)
    for table in metadata.sorted_tables:
        mine = table.to_metadata(tables)
        for column in mine.columns:
            if isinstance(column.type, sa.String):
                column.type = sa.Text(collation="C")
        for index in list(mine.indexes):
            if index.name == "ix_grants_degrading":
                mine.indexes.discard(index)
            index.dialect_options["postgresql"]["where"] = index.dialect_options["sqlite"]["where"]
    return tables


def wait_for_turn(connection: Connection) -> None:
    """Make and migrate tables one at a time, until the end of the transaction.

    A migration may take as long as the vault is large, and so may the wait for one. The commit
    ends that patience.
    """
    driver: Any = connection.connection.driver_connection
    driver.patience = math.inf
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({UPGRADING})")
    connection.exec_driver_sql("SET LOCAL lock_timeout = '30s'")


def renumber(connection: Connection, names: Sequence[str]) -> None:
    """Let the tables of these NAMES go on to number their rows behind those that they have."""
    for name in names:
        sequence = f"pg_get_serial_sequence('{name}', 'id')"
        connection.exec_driver_sql(
            f"SELECT setval({sequence}, max(id)) FROM {name} HAVING max(id) IS NOT NULL"  # noqa: S608
        )
