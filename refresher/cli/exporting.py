"""``refresher export``: the way to leave, as the JSON Lines that ``import`` takes."""

import json
from typing import Any

import click

from refresher.cli.calling import calling, load_settings, run
from refresher.cli.entry import Exit
from refresher.cli.saying import ask_whether, say
from refresher.settings.secret_places import Needed

COST = (
    "Refresh tokens are printed in the clear, and their grants are paused here: two owners of one "
    "refresh token end its grant. Go on?"
)


@click.command()
@click.argument("grants", nargs=-1, metavar="[GRANT...]")
@click.option("--client", help="Every grant of this client.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def export(
    context: click.Context,
    grants: tuple[str, ...],
    client: str | None,
    yes: bool,  # noqa: FBT001  click's flag
) -> None:
    """Print grants with their refresh tokens, for `import`.

    \b
    (umask 077; refresher export --yes > grants.jsonl)

    Without GRANT and --client it prints all. Whatever is printed is paused here first, and
    its current token stays published to its end: whoever imports it goes on with it. Then
    `refresher remove` it here, or `refresher resume` it if nobody else has used it.

    Grants are left out, and named on stderr, whose refresh token may be spent (an exchange is
    open), is lost or was never there; so are static tokens. Exits 1 if another try may bring
    some of them.
    """  # noqa: D301  click wants a real backspace before what it must not wrap
    if grants and client is not None:
        raise click.UsageError("name grants, or a client with --client")
    settings = load_settings(context)
    if not yes:
        ask_whether(COST)

    async def ask() -> tuple[int, list[dict[str, Any]]]:
        count, left_out, after = 0, list[dict[str, Any]](), 0
        async with calling(settings, needed=Needed.REDIS) as call:
            while True:
                names = list(grants) or None
                page = await call("export", names=names, client=client, after=after)
                for line in page["lines"]:
                    say(json.dumps(line))
                count += len(page["lines"])
                left_out += page["left_out"]
                if page["last"] is None:
                    return count, left_out
                after = page["last"]

    count, left_out = run(ask)
    for one in left_out:
        say(f"left out: {one['name']}: {one['why']}", err=True)
    say(f"{count} exported and paused here, {len(left_out)} left out", err=True)
    is_left = any(one["is_worth_a_try"] for one in left_out)
    context.exit(Exit.FAILED if is_left else Exit.DONE)


COMMANDS = (export,)
