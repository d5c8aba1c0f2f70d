"""The commands about grants that ask the daemon and no more: set-token, revoke, remove."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from refresher.cli.calling import (
    as_json_option,
    calling,
    load_settings,
    read_text,
    run,
    tell,
)
from refresher.cli.entry import Exit
from refresher.cli.saying import ask_whether, say
from refresher.cli.typed import END
from refresher.settings.secret_places import Needed
from refresher.times import written


@click.command("set-token")
@click.argument("grant")
@click.option("--file", type=click.Path(path_type=Path, exists=True), help="Read it from a file.")
@click.option(
    "--expires-at", type=END, help="Its end, if it has one: 2030-01-31, 60d or unix seconds."
)
@click.option("--token-type", default="Bearer", show_default=True, help="Its type.")
@as_json_option
@click.pass_context
def set_token(  # noqa: PLR0917  one parameter an option
    context: click.Context,
    grant: str,
    file: Path | None,
    expires_at: float | None,
    token_type: str,
    as_json: bool,  # noqa: FBT001  click's flag
) -> None:
    """Replace the static token of GRANT with the one on stdin.

    It is never taken from the command line, which other users of the machine can read.
    """
    settings = load_settings(context)
    given = read_text(file, "token")

    async def ask() -> Any:
        async with calling(settings, needed=Needed.REDIS) as call:
            return await call(
                "set_token",
                name=grant,
                token=given,
                expires_at=expires_at,
                token_type=token_type,
            )

    answer = run(ask)
    tell(answer, f"{grant}: version {answer['version']} is published", as_json=as_json)


@click.command()
@click.argument("grant")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
@click.pass_context
def remove(context: click.Context, grant: str, yes: bool, as_json: bool) -> None:  # noqa: FBT001  click's flags
    """Forget GRANT and its tokens, here and in Redis.

    Its refresh token is gone for good; getting it back takes a login. Its server is not
    asked to revoke anything: that does `revoke`, before.
    """
    settings = load_settings(context)
    if not yes:
        ask_whether(f"forget {grant} and its refresh token for good?")

    async def ask() -> Any:
        async with calling(settings, needed=Needed.REDIS) as call:
            before = await call("grant", name=grant)
            return before, await call("remove", name=grant)

    before, answer = run(ask)
    tell(answer, f"{grant} is removed", as_json=as_json)
    if before["refresh_token"] or before["issued_at"] is not None:
        say(
            f"its tokens were not revoked: at the server of client {before['client'] or '-'} they "
            "live on until they end, or until they are revoked on the provider's own pages",
            err=True,
        )
    if answer["exchange_out"]:
        say(
            f"an exchange of {grant} is still out: what it brings is kept aside, not revoked",
            err=True,
        )


@click.command()
@click.argument("grant")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
@click.pass_context
def revoke(context: click.Context, grant: str, yes: bool, as_json: bool) -> None:  # noqa: FBT001  click's flags
    """Revoke GRANT at its server, and forget its tokens here.

    The grant stays, waiting for a login. What the server does not revoke now is parked: a
    running daemon goes on trying for 30 days, or until the tokens end; `refresher status`
    shows it. An exchange that is under way is waited for, and what it brings is revoked
    too. Exits 1 while anything is left to be revoked.
    """
    settings = load_settings(context)
    if not yes:
        ask_whether(f"revoke {grant} at its server?")

    async def ask() -> Any:
        async with calling(settings) as call:
            return await call("revoke", name=grant)

    answer = run(ask)
    if as_json:
        say(json.dumps(answer))
    elif answer["revoked"]:
        say(f"{grant} is revoked; `refresher login {grant}` authorizes it again")
    for line in _left_open(grant, answer):
        say(line, err=True)
    context.exit(Exit.DONE if answer["revoked"] else Exit.FAILED)


def _left_open(grant: str, answer: Mapping[str, Any]) -> Iterator[str]:
    """What `revoke` could not bring to an end, and who does."""
    for parked in answer["revocations"]:
        why = f" ({answer['result']})" if answer["result"] is not None else ""
        until = written(parked["until"])
        yield (
            f"refresher: {grant} is ended here, but its server has not revoked it yet{why}; "
            f"parked: a running daemon goes on trying until {until}"
        )
    if answer["exchange_out"]:
        yield f"an exchange of {grant} is still out: what it brings will be revoked too"
    if answer["exchange_unresolved"]:
        yield (
            f"warning: an earlier exchange of {grant} was never answered: if the server issued a "
            "refresh token then, nobody has received it, and only the provider's own pages end it"
        )


COMMANDS = (set_token, revoke, remove)
