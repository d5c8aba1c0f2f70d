"""Brings the schema up to date when the vault is opened."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from refresher.errors import VaultTooNew


def upgrade(connection: Connection) -> str | None:
    """Apply missing migrations inside the caller's transaction.

    Returns:
        The newest revision where an older vault was brought to it; None where there was
        nothing to do, or the vault is new.

    Raises:
        VaultTooNew: a newer refresher wrote this vault.
    """
    config = _config()
    config.attributes["connection"] = connection
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known_revisions():
        raise VaultTooNew(
            f"the vault has schema {current}, which this version does not know: it was written "
            "by a newer refresher; run that one, or: refresher vault restore FILE"
        )
    command.upgrade(config, "head")
    newest = MigrationContext.configure(connection).get_current_revision()
    return newest if current not in {None, newest} else None


def known_revisions() -> set[str]:
    """The schemas that this version can open."""
    scripts = ScriptDirectory.from_config(_config())
    return {script.revision for script in scripts.walk_revisions()}


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
