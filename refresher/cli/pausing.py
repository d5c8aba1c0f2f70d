"""The commands ``pause`` and ``resume``: whether anything is sent for a grant."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from refresher.cli.calling import as_json_option, calling, load_settings, run
from refresher.cli.entry import Exit
from refresher.cli.saying import say
from refresher.cli.typed import DURATION
from refresher.domain.grants import GrantState
from refresher.settings.secret_places import Needed
from refresher.times import written


@click.command()
@click.argument("grants", nargs=-1, metavar="GRANT...")
@click.option("--client", help="Every grant that this client has now.")
@click.option(
    "--for", "seconds", type=DURATION, metavar="DURATION", help="End by itself: 90s, 15m, 2h."
)
@as_json_option
@click.pass_context
def pause(
    context: click.Context,
    grants: tuple[str, ...],
    client: str | None,
    seconds: float | None,
    as_json: bool,  # noqa: FBT001  click's flag
) -> None:
    """Send nothing for GRANT until `resume`, or for a while.

    For maintenance at a provider, say. The current token stays published to its end, and no
    request of a consumer ends the pause. An exchange that is out is not cut off: what it
    brings is kept. With --for the pause ends by itself, also over a restart, and the grant is
    refreshed then. A login or an import with a new refresh token ends it, too.

    Exits 1 if nothing is paused by it.
    """
    if seconds is not None and seconds <= 0:
        raise click.UsageError("a pause of no time is none")
    answer = _order(context, "pause", grants, client, seconds=seconds)
    if as_json:
        say(json.dumps(answer))
    elif client is not None:
        say(f"{answer['count']} grants of {client} are paused")
    for grant in answer["grants"] if not as_json else ():
        for line in _told(grant):
            say(line)
    states = [grant["state"] for grant in answer["grants"]]
    context.exit(Exit.DONE if answer["count"] or GrantState.PAUSED in states else Exit.FAILED)


@click.command()
@click.argument("grants", nargs=-1, metavar="GRANT...")
@click.option("--client", help="Every paused grant of this client, but what was exported.")
@as_json_option
@click.pass_context
def resume(
    context: click.Context,
    grants: tuple[str, ...],
    client: str | None,
    as_json: bool,  # noqa: FBT001  click's flag
) -> None:
    """End the pause of GRANT, whatever its reason.

    It is refreshed at once if a daemon runs, else by the next one. Where the last exchange
    has an unknown outcome, the same refresh token is sent again: a server with strict
    rotation may take that for theft and end the authorization.

    Exits 1 if nothing was paused.
    """
    answer = _order(context, "resume", grants, client)
    if as_json:
        say(json.dumps(answer))
    elif client is not None:
        say(f"{answer['count']} grants of {client} go on")
    for grant in answer["grants"] if not as_json else ():
        say(f"{grant['name']} is {grant['state']}; its next attempt is due")
    context.exit(Exit.DONE if answer["count"] else Exit.FAILED)


def _order(
    context: click.Context,
    operation: str,
    grants: tuple[str, ...],
    client: str | None,
    **parameters: float | None,
) -> Any:
    if bool(grants) is (client is not None):
        raise click.UsageError("name grants, or a client with --client")
    settings = load_settings(context)

    async def ask() -> Any:
        async with calling(settings, needed=Needed.REDIS) as call:
            names = list(grants) or None
            return await call(operation, names=names, client=client, **parameters)

    return run(ask)


def _told(grant: Mapping[str, Any]) -> Iterator[str]:
    """What a person is to know of a pause."""
    name, until = grant["name"], grant["next_attempt_at"]
    if grant["state"] != GrantState.PAUSED:
        yield f"{name} is not paused, for nothing is sent for it: {grant['state']}"
        return
    told = f"{name} is paused ({grant['reason']})"
    yield told if until is None else f"{told} until {written(until)}"
    yield f"  {grant['repair']}"
    if grant["expires_at"] is not None:
        yield f"  its token stays published until {written(grant['expires_at'])}"
    dies_at = grant["refresh_token_dies_at"]
    if dies_at is not None and (until is None or dies_at < until):
        yield f"  warning: unless it is used before, its refresh token dies at {written(dies_at)}"
    if grant["exchange_out"]:
        yield "  an exchange is still out: what it brings is kept, and published"


COMMANDS = (pause, resume)
