"""The command ``refresh``: one grant now, or what was finally rejected once more."""

import json
from collections.abc import Sequence
from typing import Any

import click

from refresher.cli.calling import as_json_option, calling, load_settings, run
from refresher.cli.entry import Exit
from refresher.cli.saying import ask_whether, say
from refresher.cli.status.wording import needs_person

COST = (
    "Refresh tokens that their server finally rejected are presented once more, the ones that "
    "worked last first. If they are dead this changes nothing; a server with strict rotation may "
    "take it for theft and end what is left of these authorizations. Go on?"
)


@click.command()
@click.argument("grants", nargs=-1, metavar="GRANT...")
@click.option("--lost", is_flag=True, help="Ask once more for what was finally rejected.")
@click.option("--client", help="With --lost: every lost grant of this client.")
@click.option("--all", "everything", is_flag=True, help="With --lost: every lost grant.")
@click.option("--yes", is_flag=True, help="With --lost: do not ask.")
@as_json_option
@click.pass_context
def refresh(  # noqa: PLR0917  one parameter an option
    context: click.Context,
    grants: tuple[str, ...],
    lost: bool,  # noqa: FBT001  click's flag
    client: str | None,
    everything: bool,  # noqa: FBT001  click's flag
    yes: bool,  # noqa: FBT001  click's flag
    as_json: bool,  # noqa: FBT001  click's flag
) -> None:
    """Ask for a refresh of GRANT now.

    The daemon makes it due at once; without a daemon the command refreshes it itself.
    A paused grant stays paused: `refresher resume` ends that, and sends what it waits for.

    --lost is for a server that was wrong: it rejected refresh tokens which are good. What
    was finally rejected is asked for once more, one grant after the other.
    """
    if lost:
        if sum([bool(grants), client is not None, everything]) != 1:
            raise click.UsageError("--lost takes grants, or --client, or --all")
        _ask_lost(context, grants, client, yes=yes, as_json=as_json)
    elif client is not None or everything or yes or len(grants) != 1:
        raise click.UsageError("name one grant; --client, --all and --yes go with --lost")
    else:
        _refresh_one(context, grants[0], as_json=as_json)


def _refresh_one(context: click.Context, grant: str, *, as_json: bool) -> None:
    settings = load_settings(context)

    async def ask() -> Any:
        async with calling(settings) as call:
            return await call("refresh", name=grant)

    answer = run(ask)
    done = answer.get("grant")  # only without a daemon the exchange has ended by now
    if as_json:
        say(json.dumps(answer))
    if not answer["accepted"]:
        stands = answer["stands"]
        why = f"{stands['state']}, {stands['reason']}" if stands["reason"] else stands["state"]
        say(f"refresher: {grant} cannot be refreshed ({why})", err=True)
        if stands["repair"]:
            say(f"repair: {stands['repair']}", err=True)
        context.exit(Exit.NEEDS_PERSON)
    if done is not None and not answer["refreshed"]:
        told = done["reason"] or "a running daemon tries again"
        say(f"refresher: {grant} was not refreshed ({done['state']}: {told})", err=True)
        context.exit(Exit.NEEDS_PERSON if needs_person(done) else Exit.FAILED)
    if not as_json:
        say(f"{grant} is being refreshed" if done is None else f"{grant}: done")


def _ask_lost(
    context: click.Context, grants: Sequence[str], client: str | None, *, yes: bool, as_json: bool
) -> None:
    settings = load_settings(context)
    if not yes:
        ask_whether(COST)

    async def ask() -> Any:
        async with calling(settings) as call:
            return await call("refresh_lost", names=list(grants) or None, client=client)

    answer = run(ask)
    if as_json:
        say(json.dumps(answer))
        return
    for name in answer["asked"]:
        done = answer.get("grants", {}).get(name)  # only without a daemon
        told = "is being asked for" if done is None else f"{done['state']} ({done['reason']})"
        say(f"{name} {told}")
    if not answer["asked"]:
        say("none of them was finally rejected with its refresh token kept", err=True)
        context.exit(Exit.FAILED)


COMMANDS = (refresh,)
