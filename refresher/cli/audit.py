"""The command ``audit``: who changed what."""

import json
import pwd
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import click

from refresher.cli.calling import Call, as_json_option, calling, load_settings, run
from refresher.cli.saying import say
from refresher.settings.secret_places import Needed
from refresher.times import written

SHOWN = 50
"""Changes shown where not all are asked for."""

PAGE = 500

OTHERS = {"settings": "the settings", "consumer": "a consumer", "daemon": "the daemon"}
"""Who is no operator, in words."""


@click.command()
@click.argument("grant", required=False)
@click.option(
    "--limit", type=click.IntRange(min=1), default=SHOWN, show_default=True, help="So many."
)
@click.option("--all", "everything", is_flag=True, help="As far back as the vault keeps them.")
@as_json_option
@click.pass_context
def audit(
    context: click.Context,
    grant: str | None,
    limit: int,
    everything: bool,  # noqa: FBT001  click's flag
    as_json: bool,  # noqa: FBT001  click's flag
) -> None:
    """Show who changed what, the newest first: all, or of GRANT.

    Who: the user and the process of a command, the settings, a consumer, or the daemon itself.
    What was ordered for all grants of a client stands in one line, and is shown with each of
    them. The vault keeps the changes as long as [vault] keep says.
    """
    settings = load_settings(context)
    most = None if everything else limit

    async def ask() -> None:
        async with calling(settings, needed=Needed.NONE) as call:
            comma = ""
            if as_json:
                say('{"changes": [')
            async for change in _changes(call, grant, most):
                say(comma + json.dumps(change) if as_json else _line(change))
                comma = ","
            if as_json:
                say("]}")

    run(ask)


async def _changes(call: Call, grant: str | None, most: int | None) -> AsyncIterator[Any]:
    """Up to MOST changes, page by page."""
    after: int | None = 0
    while after is not None and (most is None or most > 0):
        limit = PAGE if most is None else min(most, PAGE)
        page = await call("changes", after=after, limit=limit, name=grant)
        for change in page["changes"]:
            yield change
        after = page["next"]
        most = None if most is None else most - len(page["changes"])


def _line(change: Mapping[str, Any]) -> str:
    """CHANGE as a person reads it."""
    about = change["grant"] or ""
    if not about and change["client"] is not None:
        grants = "" if change["count"] is None else f"{change['count']} grants of "
        about = f"{grants}client {change['client']}"
    told = f"{written(change['at'])}  {change['what'].replace('_', ' '):<18} {about}"
    detail = "" if change["detail"] is None else f" ({change['detail']})"
    return f"{told}{detail}, by {_who(change)}"


def _who(change: Mapping[str, Any]) -> str:
    if change["uid"] is None:
        return OTHERS[change["by"]]
    name = f"uid {change['uid']}"
    with suppress(KeyError):
        name = pwd.getpwuid(change["uid"]).pw_name
    return f"{name} (process {change['pid']})"


COMMANDS = (audit,)
