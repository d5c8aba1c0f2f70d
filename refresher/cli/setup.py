"""``refresher init`` and ``refresher check``: from nothing to settings that hold."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from refresher.cli.calling import load_completely, run
from refresher.cli.entry import Exit
from refresher.cli.providers import provider_called
from refresher.cli.saying import say
from refresher.cli.servers import described
from refresher.clock import SystemClock
from refresher.domain.completion import doubts
from refresher.domain.discovery import NOTHING_KNOWN
from refresher.domain.findings import Finding, Level
from refresher.domain.grants import NAME_RULE, is_valid_name
from refresher.errors import ControlUnavailable, RefresherError, SettingsError, VaultKeyError
from refresher.files import ABSENT, Unseen, make_folder
from refresher.ops.control_client import ControlClient
from refresher.providers.lines import settings_lines
from refresher.settings.loading import load
from refresher.settings.model import Settings
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
@click.option("--provider", help="Begin with a client of this provider of the catalogue.")
@click.option("--client", help="What that client is called. Default: as the provider.")
def init(directory: Path, provider: str | None, client: str | None) -> None:
    """Write a commented refresher.toml and a vault key.

    With --provider the settings have a client of it, to be filled in.

    Neither is ever overwritten. The key (mode 0600) opens the vault's refresh tokens:
    keep a copy of it where you keep no copy of the vault.
    """
    # As who we are: the folder's owner may not be able to read the program.
    text, more = template(), _client_of(provider, client)
    become_owner_of(directory)
    try:
        make_folder(directory)
    except OSError as error:
        raise RefresherError(f"{directory} cannot be made: {error.strerror}") from error
    settings = directory / "refresher.toml"
    if not _write_once(settings, partial(_write_settings, text + more)) and more:
        say(f"add to it:\n{more}")
    # Where the settings look for it: beside the vault, which is elsewhere for those in /etc.
    key = load(settings, needed=Needed.NONE).settings.vault.key_file
    try:
        make_folder(key.parent)
    except OSError as error:
        raise RefresherError(f"{key.parent} cannot be made: {error.strerror}") from error
    _write_once(key, write_key_file)
    say(f"next: edit {settings}, then `refresher check`")


def _client_of(provider: str | None, client: str | None) -> str:
    """TOML for a client called CLIENT of PROVIDER, if one is asked for."""
    if provider is None:
        if client is not None:
            raise click.UsageError("--client goes with --provider")
        return ""
    found = provider_called(provider, "--provider")
    if found.needs:
        raise click.BadParameter(
            f"{provider} does not work yet: `refresher providers {provider}` says what it wants",
            param_hint="--provider",
        )
    if client is not None and not is_valid_name(client):
        raise click.BadParameter(f"use {NAME_RULE}", param_hint="--client")
    return "\n" + "\n".join(settings_lines(found, client)) + "\n"


def _write_once(path: Path, write: Callable[[Path], None]) -> bool:
    """Whether PATH was not there and is now."""
    try:
        write(path)
    except FileExistsError:
        say(f"{path} exists; left as it is")
        return False
    except OSError as error:
        raise RefresherError(f"{path} cannot be written: {error.strerror}") from error
    say(f"{path} written")
    return True


def _write_settings(text: str, path: Path) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | ABSENT, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


@click.command()
@click.option("--verbose", is_flag=True, help="Show on a terminal what failed commands say.")
@click.option("--online", is_flag=True, help="Look at servers, vault and Redis, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.argument("only", metavar="[CLIENT|GRANT]", required=False)
@click.pass_context
def check(
    context: click.Context,
    verbose: bool,  # noqa: FBT001  click's flag
    online: bool,  # noqa: FBT001  click's flag
    as_json: bool,  # noqa: FBT001  click's flag
    only: str | None,
) -> None:
    """Check settings, secrets and vault key; print every problem.

    With --online it also asks the servers of every client, or of the one that is named or
    that the named grant is of, then the daemon and Redis: names, TLS, clocks, endpoints,
    rights. Nothing is spent, and no secret is sent to a server.

    Exits 78 if there is a problem, naming what mends it. What this user may not look at, as
    systemd's credentials outside of the unit, is listed as not seen.
    """
    if only is not None and not online:
        raise click.UsageError("CLIENT or GRANT goes with --online")
    problems: list[str] = []
    found: list[str] = []
    warnings: list[str] = []
    not_seen: list[str] = []
    settings: Settings | None = None
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
        settings = loaded.settings
    except SettingsError as error:
        problems = error.problems
    except RefresherError as error:
        problems = [str(error)]
    if settings is not None and any(one.discovery for one in settings.clients.values()):
        run(_add_servers, settings, found, warnings)
    if not as_json:
        _print(problems, warnings, not_seen, found)
    result: dict[str, Any] = {
        "problems": problems,
        "warnings": warnings,
        "not_seen": not_seen,
        "found": found,
    }
    is_bad = bool(problems)
    if online and settings is not None and not problems:
        seen = run(_look, settings, only, as_json)
        is_bad = any(one.level is Level.PROBLEM for one in seen)
        result["online"] = list(map(asdict, seen))
    if as_json:
        say(json.dumps({"ok": not is_bad, **result}))
    context.exit(Exit.CONFIGURATION if is_bad else Exit.DONE)


async def _look(settings: Settings, only: str | None, as_json: bool) -> list[Finding]:  # noqa: FBT001  handed on from click
    """Everything found outside; told as it is found unless AS_JSON."""
    # Half of a command's time to start, and not needed for the settings alone.
    from refresher.cli.online import look  # noqa: PLC0415  see above

    found: list[Finding] = []
    async for finding in look(settings, only, SystemClock()):
        found.append(finding)
        if not as_json:
            is_good = finding.level is Level.GOOD
            say(f"{finding.level}: {finding.subject}: {finding.text}", err=not is_good)
            if finding.mend is not None:
                say(f"    {finding.mend}", err=not is_good)
    return found


async def _add_servers(settings: Settings, found: list[str], warnings: list[str]) -> None:
    """What is known of the servers that clients leave something to, and what is to be done."""
    # Half of a command's time to start, and needed by few.
    from refresher.app.looking import known_servers  # noqa: PLC0415  see above

    now = SystemClock().now()
    if settings.vault.url is None and not settings.vault.path.exists():
        warnings += [
            f"client {client.name}: {doubt}"
            for client in settings.clients.values()
            for doubt in doubts(client, NOTHING_KNOWN, now)
        ]
        return
    try:
        try:
            answer: Any = await ControlClient(settings.control.socket).call("clients")
            views = answer["clients"]
        except ControlUnavailable:
            become_owner_of(settings.vault.path)
            views = await known_servers(settings)
    except RefresherError as error:
        warnings.append(f"what is known of the clients' servers cannot be seen: {error}")
        return
    for view in views:
        found += described(view, now)
        warnings += view["doubts"]


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


COMMANDS = (init, check)
