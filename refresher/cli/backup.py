"""``refresher vault backup``: a copy of the vault, beside a daemon or without one."""

from pathlib import Path

import click

from refresher.cli.calling import as_json_option, tell
from refresher.clock import SystemClock
from refresher.errors import RefresherError
from refresher.settings.loading import load
from refresher.settings.secret_places import Needed
from refresher.vault.sqlite.backup import back_up


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@as_json_option
@click.pass_context
def backup(context: click.Context, file: Path, as_json: bool) -> None:  # noqa: FBT001  click's flag
    """Copy the vault to FILE, whether or not a daemon is running.

    The copy opens only with the vault key, which is not in it. Restore it, with `refresher
    vault restore FILE`, only when the vault itself is gone: refresh tokens that rotated
    since the copy are in no backup, and their grants will need a login.
    """
    settings = load(context.obj, needed=Needed.NONE).settings
    if settings.vault.url is not None:
        raise RefresherError(
            "the vault is in PostgreSQL: back it up with pg_dump, or with the database's own "
            f"continuous archiving; keep {settings.vault.key_file} in another place"
        )
    size = back_up(settings.vault.path, file, SystemClock().now())
    text = f"{file}: {size} bytes; keep {settings.vault.key_file} in another place"
    tell({"file": str(file), "bytes": size}, text, as_json=as_json)


COMMANDS = (backup,)
