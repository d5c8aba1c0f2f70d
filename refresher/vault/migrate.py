"""Brings the schema up to date when the vault is opened.

A new vault gets the schema as it is now. Only where a migration is due is Alembic imported: it
would be a tenth of an idle daemon's memory and of its start. That migrations end in the very
schema of a new vault is a test.
"""

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.errors import VaultTooNew
from refresher.vault.schema import metadata

_VERSION = sa.Table(
    "alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True)
)
"""Alembic's own table: the revision that a vault is of."""


def older_revision(connection: Connection) -> str | None:
    """The revision of a vault that is to be migrated; None of one that is current, or new.

    Raises:
        VaultTooNew: a newer refresher wrote this vault.
    """
    current, known = _revision(connection), known_revisions()
    if current is None or current == max(known):
        return None
    if current not in known:
        raise VaultTooNew(
            f"the vault has schema {current}, which this version does not know: it was written "
            "by a newer refresher; run that one, or: refresher vault restore FILE"
        )
    return current


def is_current(connection: Connection) -> bool:
    """Whether a vault has the schema of this version: nothing is to be made, nor migrated."""
    return _revision(connection) == max(known_revisions())


def create_all(connection: Connection) -> None:
    """Make the tables of a new vault."""
    metadata.create_all(connection, checkfirst=False)


def upgrade(connection: Connection, create: Callable[[Connection], None] = create_all) -> str:
    """Make the schema of a new vault, or apply missing migrations, in the caller's transaction.

    Args:
        create: makes the tables.

    Returns:
        The revision that the vault is of now.

    Raises:
        VaultTooNew: a newer refresher wrote this vault.
    """
    newest = max(known_revisions())
    if _revision(connection) is None:
        create(connection)
        _VERSION.create(connection)
        connection.execute(_VERSION.insert(), {"version_num": newest})
    elif older_revision(connection) is not None:
        _run(connection)
    return newest


def known_revisions() -> set[str]:
    """The schemas that this version can open; each migration's file begins with its own."""
    return {script.name[:4] for script in (_folder() / "versions").glob("[0-9]*.py")}


def _revision(connection: Connection) -> str | None:
    """The revision that the vault says it has; None for a new one."""
    if not sa.inspect(connection).has_table(_VERSION.name):
        return None
    revision: str | None = connection.scalar(sa.select(_VERSION.c.version_num))
    return revision


def _run(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415  see above
    from alembic.config import Config  # noqa: PLC0415  see above

    config = Config()
    config.set_main_option("script_location", str(_folder()))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _folder() -> Path:
    return Path(__file__).parent / "migrations"
