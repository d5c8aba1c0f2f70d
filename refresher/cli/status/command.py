"""What a person types: ``refresher status``."""

import json
import shutil
import sys
from collections.abc import AsyncIterator, Iterable
from itertools import chain
from typing import Any

import click

from refresher.cli.calling import Call, as_json_option, calling, load_settings, run
from refresher.cli.entry import Exit
from refresher.cli.saying import say
from refresher.cli.servers import described
from refresher.cli.status import asking, drawing
from refresher.cli.status.asking import Asked
from refresher.cli.status.single import page
from refresher.cli.status.wording import View, is_red, needs_person, total
from refresher.clock import SystemClock
from refresher.settings.secret_places import Needed

OTHERS = 20
"""Grants shown that need nothing, where not all are asked for."""

RED = 100
"""Grants shown that need something, where not all are asked for."""

AWAY = "no daemon is running: nothing is being refreshed"
PARKED = "\nnot revoked yet at their server; a running daemon goes on trying:"


@click.command()
@click.argument("grant", required=False)
@click.option(
    "--state",
    type=click.Choice([state.value for state in asking.IN_ORDER]),
    help="Only grants in this state.",
)
@click.option("--client", help="Only grants of this client.")
@click.option("--all", "everything", is_flag=True, help="Every grant, however many there are.")
@click.option("--watch", is_flag=True, help="Redraw every 2 seconds until Ctrl-C.")
@as_json_option
@click.pass_context
def status(  # noqa: PLR0917  one parameter an option
    context: click.Context,
    grant: str | None,
    state: str | None,
    client: str | None,
    everything: bool,  # noqa: FBT001  click's flag
    watch: bool,  # noqa: FBT001  click's flag
    as_json: bool,  # noqa: FBT001  click's flag
) -> None:
    """Show how grants are and what mends them, or all of GRANT.

    What needs somebody comes first, then what ends soonest. What `revoke` has parked, since
    its server does not revoke it now, is shown below. Exits 3 if a grant needs a human.
    """
    asked = Asked(grant=grant, state=state, client=client, everything=everything)
    if grant is not None and asked.filters | ({"all": "yes"} if everything else {}):
        raise click.UsageError("GRANT goes without --state, --client and --all")
    settings = load_settings(context)
    if watch:
        if as_json or everything or not sys.stdout.isatty():
            raise click.UsageError("--watch is for a terminal, without --json and --all")
        _watch(settings.control.socket, asked)
        context.exit(Exit.DONE)

    async def ask() -> bool:
        async with calling(settings, needed=Needed.NONE) as call:
            daemon = await call("ping")
            shown = _shown_as_json(call, asked, daemon) if as_json else _shown(call, asked)
            waiting = [waits async for waits in shown]
        if not daemon:
            say(AWAY, err=True)
        return any(waiting)

    context.exit(Exit.NEEDS_PERSON if run(ask) else Exit.DONE)


def _watch(socket: Any, asked: Asked) -> None:
    # Nobody else needs it.
    from refresher.cli.status.watch import watch  # noqa: PLC0415  see above
    from refresher.ops.control_client import ControlClient  # noqa: PLC0415  see above

    try:
        run(watch, ControlClient(socket), asked, SystemClock())
    except KeyboardInterrupt:
        return  # Ctrl-C is how it is meant to end


async def _shown(call: Call, asked: Asked) -> AsyncIterator[bool]:
    """Print what is ASKED for to a person; give whether something of it needs one."""
    now, width = SystemClock().now(), _width()
    parked: list[View] = []
    view = None
    if asked.grant is not None:
        view, parked = await asking.one(call, asked.grant)
        if view is not None:
            _say_all(page(view, now, width))
            yield needs_person(view)
    elif asked.is_list:
        number = 0
        async for views in asking.grants(call, asked):
            heading, blocks = drawing.table(views, now, width)
            _say_all(chain([heading] if blocks and not number else [], *blocks))
            number += len(views)
            yield any(map(needs_person, views))
        say(f"{number} grant{'' if number == 1 else 's'}", err=True)
    else:
        yield await _shown_first(call, now, width)
    await _show_servers(call, None if asked.grant is None or view is None else view["client"], now)
    if not asked.filters and asked.grant is None:
        parked = [one async for some in asking.pages(call, "revocations", "revocations")
                  for one in some[:RED]]  # fmt: skip
    if parked:
        say(PARKED)
        _say_all(drawing.parked(parked[:RED], now, width))


async def _show_servers(call: Call, client: str | None, now: float) -> None:
    """Print what is known of the server of CLIENT, or what is to be done about any client's."""
    for known in (await call("clients"))["clients"]:
        if client == known["client"]:
            _say_all(described(known, now))
        if client in {None, known["client"]}:
            _say_all(f"warning: {doubt}" for doubt in known["doubts"])


async def _shown_first(call: Call, now: float, width: int | None) -> bool:
    """Print what a person should see of all grants; whether one of them needs a human."""
    seen = await asking.overview(call, Asked())
    if not seen.totals:
        say("no grants yet: `refresher login GRANT --client CLIENT` adds one")
        return False
    red = [view for view in seen.views if is_red(view)][:RED]
    others = [view for view in seen.views if not is_red(view)][:OTHERS]
    heading, blocks = drawing.table([*red, *others], now, width)
    _say_all(chain([total(seen.totals), heading], *blocks))
    if more := sum(seen.totals.values()) - len(blocks):
        say(f"and {more} more: refresher status --all")
    return seen.needs_person


async def _shown_as_json(call: Call, asked: Asked, daemon: Any) -> AsyncIterator[bool]:
    """Print one JSON document as it comes, a grant a line; give whether one needs a human.

    A document and not lines of JSON: one that was cut off does not parse, where lines that
    are missing would not be missed.
    """
    view = None if asked.grant is None else (await asking.one(call, asked.grant))[0]
    say(f'{{"daemon": {json.dumps(daemon)}, "grants": [')
    parked: dict[str, str] = {}
    if asked.grant is not None:
        if view is not None:
            say(json.dumps(view))
            yield needs_person(view)
        parked = {"name": asked.grant}
    else:
        comma = ""
        async for views in asking.pages(call, "grants", "grants", **asked.filters):
            for view in views:
                say(comma + json.dumps(view))
                comma = ","
            yield any(map(needs_person, views))
    say('], "revocations": [')
    comma = ""
    if not asked.filters:
        async for some in asking.pages(call, "revocations", "revocations", **parked):
            for one in some:
                say(comma + json.dumps(one))
                comma = ","
    say('], "clients": ' + json.dumps((await call("clients"))["clients"]) + "}")


def _say_all(lines: Iterable[str]) -> None:
    for line in lines:
        # Every part that others wrote is plain already; say() would escape the colours.
        click.echo(line)


def _width() -> int | None:
    """Columns of the terminal; None where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


COMMANDS = (status,)
