"""``refresher kept``: the answers that found no grant."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import click

from refresher.cli.calling import Call, as_json_option, calling, load_settings, run, tell
from refresher.cli.listing import Listed, ListedCommands
from refresher.cli.saying import ask_whether, say
from refresher.settings.secret_places import Needed
from refresher.times import written

PARTS = {
    "list": Listed("kept", "List the answers that found no grant, without their secrets."),
    "adopt": Listed("kept", "Give the refresh token of ANSWER to GRANT, if it has no good one."),
    "drop": Listed("kept", "Forget ANSWER, and the only copy of what is in it."),
}


@click.group(cls=ListedCommands, sections={"Commands": PARTS})
def kept() -> None:
    """See, adopt or drop the answers of servers that found no grant."""


@click.command("list")
@as_json_option
@click.pass_context
def list_(context: click.Context, as_json: bool) -> None:  # noqa: FBT001  click's flag
    """List the answers that found no grant, without their secrets.

    An orphan is tokens that came too late for their authorization. An unreadable one is an
    answer that nobody understood. A rescued one waits in the rescue file, for a row of the
    vault or for a key.
    """
    settings = load_settings(context)

    async def ask() -> int:
        async with calling(settings, needed=Needed.NONE) as call:
            count = 0
            if as_json:
                say('{"kept": [')
            async for one in _kept(call):
                say(("," if count else "") + json.dumps(one) if as_json else _line(one))
                count += 1
            if as_json:
                say("]}")
            return count

    if not run(ask) and not as_json:
        say("nothing is kept: every answer has found its grant")


@click.command()
@click.argument("answer")
@click.argument("grant", required=False)
@as_json_option
@click.pass_context
def adopt(
    context: click.Context,
    answer: str,
    grant: str | None,
    as_json: bool,  # noqa: FBT001  click's flag
) -> None:
    """Give the refresh token of ANSWER to GRANT, if it has no good one.

    Without GRANT to the one that it came for. A grant that holds a refresh token takes none
    that was kept, unless its own was finally refused: what was kept is older, or may be. The
    grant is refreshed then. An unreadable answer is read once more, and counts if this version
    understands it and nothing newer has come.
    """
    settings = load_settings(context)

    async def ask() -> Any:
        async with calling(settings, needed=Needed.REDIS) as call:
            return await call("adopt_kept", id=answer, name=grant)

    done = run(ask)
    tell(done, f"{done['name']} has it: {done['state']}; its next attempt is due", as_json=as_json)


@click.command()
@click.argument("answer")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
@click.pass_context
def drop(
    context: click.Context,
    answer: str,
    yes: bool,  # noqa: FBT001  click's flag
    as_json: bool,  # noqa: FBT001  click's flag
) -> None:
    """Forget ANSWER, and the only copy of what is in it.

    A refresh token in it lives on at its server: nobody can revoke it any more.
    """
    settings = load_settings(context)
    if not yes:
        ask_whether(f"Forget kept answer {answer} for good? It may hold the only refresh token.")

    async def ask() -> Any:
        async with calling(settings, needed=Needed.REDIS) as call:
            return await call("drop_kept", id=answer)

    tell(run(ask), f"kept answer {answer} is forgotten", as_json=as_json)


async def _kept(call: Call) -> AsyncIterator[Mapping[str, Any]]:
    """Every kept answer, page by page."""
    after: int | None = 0
    while after is not None:
        page = await call("kept", after=after)
        for one in page["kept"]:
            yield one
        after = page["next"]


def _line(one: Mapping[str, Any]) -> str:
    """A kept answer as a person reads it."""
    about = "an unknown grant" if one["grant"] is None else one["grant"]
    client = "" if one["client"] is None else f" of {one['client']}"
    came = "" if one["received_at"] is None else f" came {written(one['received_at'])}"
    return f"{one['id']}: {one['kind']}, for {about}{client}{came}{_held(one)}"


def _held(one: Mapping[str, Any]) -> str:
    if not one["opened"]:
        return "; no key opens it"
    held = {True: "; it holds a refresh token", False: "; it holds no refresh token"}
    return held.get(one["refresh_token"], "")


COMMANDS = (kept, list_, adopt, drop)
