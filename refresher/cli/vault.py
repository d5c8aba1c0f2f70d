"""``refresher vault``: what concerns the vault as a whole, its copies and its key."""

from pathlib import Path

import click

from refresher.cli.calling import as_json_option, tell
from refresher.clock import SystemClock
from refresher.settings.loading import load
from refresher.vault.backup import back_up


@click.group()
def vault() -> None:
    """Copy the vault, or change its key."""


@vault.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@as_json_option
@click.pass_context
def backup(context: click.Context, file: Path, as_json: bool) -> None:  # noqa: FBT001  click's flag
    """Copy the vault to FILE, whether or not a daemon is running.

    The copy opens only with the vault key, which is not in it. Restore it only when the
    vault itself is gone: refresh tokens that rotated since the copy are in no backup, and
    their grants will need a login. To restore, stop the daemon, put the copy in the
    vault's place, remove the files beside it that end in -wal and -shm, and start again.
    """
    settings = load(context.obj, public_only=True).settings
    size = back_up(settings.vault.path, file, SystemClock().now())
    text = f"{file}: {size} bytes; keep {settings.vault.key_file} in another place"
    tell({"file": str(file), "bytes": size}, text, as_json=as_json)


COMMANDS = (vault,)
