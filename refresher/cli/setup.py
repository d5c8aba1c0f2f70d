"""``refresher init`` and ``refresher check``: from nothing to settings that hold."""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from refresher.cli.calling import load_completely
from refresher.cli.entry import Exit
from refresher.cli.providers import providers_command
from refresher.cli.saying import say
from refresher.errors import RefresherError, SettingsError, VaultKeyError
from refresher.files import ABSENT, Unseen, make_folder
from refresher.settings.loading import load
from refresher.settings.secret_places import Needed
from refresher.settings.template import template
from refresher.settings.user import become_owner_of
from refresher.vault.sealing import Keyring, write_key_file


@click.command()
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where to write. Default: here.",
)
def init(directory: Path) -> None:
    """Write a commented refresher.toml and a vault key.

    Neither is ever overwritten. The key (mode 0600) opens the vault's refresh tokens:
    keep a copy of it where you keep no copy of the vault.
    """
    text = template()  # as who we are: the folder's owner may not be able to read the program
    become_owner_of(directory)
    try:
        make_folder(directory)
    except OSError as error:
        raise RefresherError(f"{directory} cannot be made: {error.strerror}") from error
    settings = directory / "refresher.toml"
    _write_once(settings, partial(_write_settings, text))
    # Where the settings look for it: beside the vault, which is elsewhere for those in /etc.
    key = load(settings, needed=Needed.NONE).settings.vault.key_file
    try:
        make_folder(key.parent)
    except OSError as error:
        raise RefresherError(f"{key.parent} cannot be made: {error.strerror}") from error
    _write_once(key, write_key_file)
    say(f"next: edit {settings}, then `refresher check`")


def _write_once(path: Path, write: Callable[[Path], None]) -> None:
    try:
        write(path)
    except FileExistsError:
        say(f"{path} exists; left as it is")
    except OSError as error:
        raise RefresherError(f"{path} cannot be written: {error.strerror}") from error
    else:
        say(f"{path} written")


def _write_settings(text: str, path: Path) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | ABSENT, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


@click.command()
@click.option("--verbose", is_flag=True, help="Show on a terminal what failed commands say.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def check(context: click.Context, verbose: bool, as_json: bool) -> None:  # noqa: FBT001  click's flags
    """Validate the settings, every secret and the vault key; print all problems at once.

    Exits 78 if there is one, naming file, key and fix. What this user may not look at, as
    systemd's credentials outside of the unit, is listed as not seen.
    """
    problems: list[str] = []
    found: list[str] = []
    warnings: list[str] = []
    not_seen: list[str] = []
    complain = _complain if verbose and sys.stderr.isatty() else None
    try:
        loaded = load_completely(context.obj, forgives_unseen=True, complain=complain)
        found, warnings = loaded.summary(), list(loaded.warnings)
        not_seen += loaded.of_service
        # The user whom the vault's folder belongs to must see what the daemon sees.
        is_daemons = _is_owner_of(loaded.settings.vault.path.parent)
        hidden = problems if is_daemons else not_seen
        hidden += loaded.not_seen
        _check_key(loaded.settings.vault.key_file, hidden)
    except SettingsError as error:
        problems = error.problems
    except RefresherError as error:
        problems = [str(error)]
    if as_json:
        result = {"problems": problems, "warnings": warnings, "not_seen": not_seen, "found": found}
        say(json.dumps({"ok": not problems, **result}))
    else:
        _print(problems, warnings, not_seen, found)
    context.exit(Exit.CONFIGURATION if problems else Exit.DONE)


def _check_key(file: Path, hidden: list[str]) -> None:
    """Read the vault key; where this user may not, add that to HIDDEN."""
    try:
        Keyring.load(file)
    except VaultKeyError as error:
        if not isinstance(error.__cause__, Unseen):
            raise
        hidden.append(str(error))


def _is_owner_of(folder: Path) -> bool:
    try:
        return folder.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _complain(command: str, complaint: str) -> None:
    for line in complaint.splitlines():
        say(f"{command}: {line}", err=True)


def _print(problems: list[str], warnings: list[str], not_seen: list[str], found: list[str]) -> None:
    for line in found:
        say(line)
    for warning in warnings:
        say(f"warning: {warning}", err=True)
    for line in not_seen:
        say(f"not seen from here: {line}", err=True)
    for problem in problems:
        say(f"problem: {problem}", err=True)
    if not problems:
        say("the settings are good" + (", as far as they can be seen" if not_seen else ""))


COMMANDS = (init, check, providers_command)
