"""``refresher vault rotate-key`` and ``key-status``: what is sealed under which key."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import anyio
import click

from refresher.cli.calling import as_json_option, calling, load_settings, run
from refresher.cli.saying import say
from refresher.settings.model import VaultSettings

LOOK_EVERY, SHARE = 0.5, 50
"""Seconds between two questions whether everything is under the new key, and how many times as
long as the answer took: the daemon counts all that is sealed for it."""

UNSEEN = (
    "not seen from here: backups and other copies of the vault; each opens only with the lines "
    "of its own time"
)

UNSEEN_REPLICAS = (
    "nor the rescue files of replicas that do not run: start each once before a line goes"
)


@click.command("rotate-key")
@as_json_option
@click.pass_context
def rotate_key(context: click.Context, as_json: bool) -> None:  # noqa: FBT001  click's flag
    """Bring in a new vault key, and seal everything anew under it.

    The new key becomes the first line of the key file; the old lines stay, because backups
    need them. The daemon goes on meanwhile. If this command, or the daemon, is killed on the
    way, the next daemon sees it through. Each call brings in one more key.

    Where several daemons share a vault the new key seals nothing until each of them has read it:
    copy its line into the key file of every other one. The command says whom it waits for.
    """
    settings = load_settings(context)

    async def ask() -> Any:
        async with calling(settings) as call:
            key = (await call("rotate_key"))["key"]
            status, took = await call("key_status"), 0.0
            if status["resealing"]:
                say("the daemon seals everything anew, and goes on if you do not wait", err=True)
            while status["resealing"]:
                await anyio.sleep(max(LOOK_EVERY, SHARE * took))
                asked = anyio.current_time()
                status = await call("key_status")
                took = anyio.current_time() - asked
            return {"key": key, **status}

    _print(run(ask), settings.vault, as_json=as_json)


@click.command("key-status")
@as_json_option
@click.pass_context
def key_status(context: click.Context, as_json: bool) -> None:  # noqa: FBT001  click's flag
    """Count what each line of the key file seals; tell which can go."""
    settings = load_settings(context)

    async def ask() -> Any:
        async with calling(settings) as call:
            return await call("key_status")

    _print(run(ask), settings.vault, as_json=as_json)


def _print(status: Mapping[str, Any], vault: VaultSettings, *, as_json: bool) -> None:
    unseen = [UNSEEN] if vault.url is None else [UNSEEN, UNSEEN_REPLICAS]
    if as_json:
        shown = {"key_file": str(vault.key_file), "unseen": "; ".join(unseen)}
        say(json.dumps({**status, **shown}))
        return
    say(f"{vault.key_file}:")
    for key in status["keys"]:
        for line in _lines(key):
            say(line)
    if status["resealing"]:
        say("the daemon is bringing everything under the line that seals")
    for line in unseen:
        say(line)


def _lines(key: Mapping[str, Any]) -> Iterator[str]:
    """What is told of one KEY."""
    counted = ", ".join(
        f"{count} {kind.removesuffix('s') if count == 1 else kind}"
        for kind, count in key["sealed"].items()
        if count
    )
    place = "in no line" if key["line"] is None else f"line {key['line']}"
    role = ""
    if key["line"] is None:
        role = " (nothing opens these)"
    elif key["seals"]:
        role = " (seals)"
    elif key["waits"]:
        role = " (seals once every replica can read it)"
    yield f"  {place}, key {key['key']}{role}: {counted or 'nothing'}"
    for replica in key["unread_by"] if key["line"] is not None else ():
        yield f"    not in the key file of replica {_named(replica)}"
    for replica in key["needed_by"] if not key["seals"] else ():
        yield f"    still needed by replica {_named(replica)}"
    if key["first_format"]:
        yield f"    {key['first_format']} of these are of the first format, to be sealed anew"
    if key["can_go"]:
        yield "    this line can go, unless a backup needs it"


def _named(replica: Mapping[str, str]) -> str:
    return f"{replica['replica']} ({replica['instance']})"


COMMANDS = (rotate_key, key_status)
