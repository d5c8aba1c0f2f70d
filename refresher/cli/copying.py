"""``refresher vault copy``: a vault that leaves its file for PostgreSQL."""

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from refresher.cli.calling import as_json_option, load_completely, run, tell
from refresher.domain.secret import Secret
from refresher.errors import RefresherError
from refresher.settings.model import Settings, VaultSettings
from refresher.settings.secret_places import Needed
from refresher.settings.user import become_owner_of

FILE = "sqlite:///"
"""Stands before the path of a file, where it is written as a URL."""


@click.command()
@click.argument("source", metavar="[SQLITE_URL]", required=False)
@click.argument("target", metavar="[POSTGRES_URL]", required=False)
@as_json_option
@click.pass_context
def copy(context: click.Context, source: str | None, target: str | None, as_json: bool) -> None:  # noqa: FBT001  click's flag
    """Move the vault from its file into PostgreSQL; compare each row.

    Without arguments from `vault.path` to `vault.url` of the settings. The daemon must be
    stopped; what is sealed stays sealed under the same keys. A copy that was cut off goes on
    with the same command, and until it has ended no daemon starts on the database. Then the file
    is called PATH.moved: a refresh token that two vaults present is lost.

    The rescue file stays where it is for the next daemon: leave `vault.path` as it is.
    """
    settings = load_completely(context.obj, needed=Needed.VAULT).settings
    path = settings.vault.path if source is None else Path(source.removeprefix(FILE))
    url = settings.vault.url if target is None else Secret(target)
    if url is None:
        raise click.UsageError("name POSTGRES_URL, or set vault.url")
    if target is not None and urlsplit(target).password:
        raise RefresherError(
            "a password on the command line can be read by every process: set vault.url, for "
            "example from a file, and leave POSTGRES_URL out"
        )
    become_owner_of(path)
    where = VaultSettings(path=path, key_file=path, keep=1.0, url=url).location
    result = run(_move, settings, path, url)
    result |= {"vault": where}
    text = (
        f"{where} has the vault now: {result['rows']} rows, each compared, and {result['opened']} "
        f"sealed values, each opened; the file is {result['moved']}"
    )
    if result["unopened"]:
        text += f"; {result['unopened']} more are opened by no key, in the file neither"
    tell(result, text, as_json=as_json)


async def _move(settings: Settings, path: Path, url: Secret) -> dict[str, Any]:
    # Half of a command's time to start.
    from refresher.vault.moving import move  # noqa: PLC0415  see above

    is_seen = sys.stderr.isatty()
    with click.progressbar(length=1, label="copying", file=sys.stderr, hidden=not is_seen) as bar:

        def begin(rows: int) -> None:
            bar.length = max(rows, 1)

        done, moved = await move(
            path, settings.vault.key_file, url, begin=begin, progress=bar.update
        )
    return {
        "rows": done.rows,
        "written": done.written,
        "opened": done.opened,
        "unopened": done.unopened,
        "moved": str(moved),
    }


COMMANDS = (copy,)
