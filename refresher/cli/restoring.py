"""``refresher vault restore``: a backup in the vault's place, while no daemon runs."""

from pathlib import Path

import click

from refresher.cli.calling import as_json_option, tell
from refresher.cli.saying import ask_whether, say
from refresher.clock import SystemClock
from refresher.errors import RefresherError, VaultInUse
from refresher.settings.loading import load
from refresher.settings.secret_places import Needed
from refresher.settings.user import become_owner_of
from refresher.times import dated, written
from refresher.vault.opening import lock_path
from refresher.vault.sealing import Keyring
from refresher.vault.sqlite.engine import make_folder
from refresher.vault.sqlite.file_lock import FileLock
from refresher.vault.sqlite.restoring import Backup, examine, finish, stage


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
@click.pass_context
def restore(context: click.Context, file: Path, yes: bool, as_json: bool) -> None:  # noqa: FBT001  click's flags
    """Put the backup FILE in the vault's place; FILE stays as it is.

    The daemon must be stopped. What is in the vault's place is kept beside it under another
    name, its -wal and -shm with it; answers in the rescue file are offered to the restored vault.
    Killed at any moment, the command leaves the old vault or the new one, never a mixture.

    A backup holds no refresh token that rotated since. Of such a grant the old one will be
    presented once: a strict server may then revoke it, and it will need a login. So restore
    only when the vault itself is gone, and take the newest backup.
    """
    settings = load(context.obj, needed=Needed.NONE).settings
    if settings.vault.url is not None:
        raise RefresherError(
            "the vault is in PostgreSQL: stop every daemon, then put its backup back with "
            "pg_restore; the next daemon tells what may have rotated since"
        )
    become_owner_of(settings.vault.path)
    vault, keyring = settings.vault.path, Keyring.load(settings.vault.key_file)
    make_folder(vault.parent)
    lock = FileLock(lock_path(vault))
    try:
        lock.acquire()
    except VaultInUse as error:
        raise RefresherError(f"{error}: stop the daemon first") from error
    try:
        backup = examine(file, vault, keyring)
        if not yes:
            say(_meaning(backup, SystemClock().now()), err=True)
            ask_whether(f"put it in the place of {vault}?")
        stage(backup, vault)
        kept = finish(vault)
    finally:
        lock.release()
    result = {
        "vault": str(vault),
        "file": str(file),
        "copied_at": backup.copied_at,
        "grants": backup.refreshable,
        "kept": None if kept is None else str(kept),
    }
    text = f"{vault} is the backup of {written(backup.copied_at)} now"
    text += "" if kept is None else f"; what was there is {kept}"
    tell(result, text, as_json=as_json)


def _meaning(backup: Backup, now: float) -> str:
    return (
        f"{backup.file} is of {dated(backup.copied_at, now)} and has refresh tokens of "
        f"{backup.refreshable} grants. Those that have rotated since are dead: each is "
        "presented once, a strict server may revoke its grant, and then it needs a login."
    )


COMMANDS = (restore,)
