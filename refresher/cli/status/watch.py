"""A live view of grants: redrawn in place, never taller than the terminal."""

import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import click

from refresher.cli.status import drawing
from refresher.cli.status.asking import Asked, one, overview
from refresher.cli.status.single import page
from refresher.cli.status.wording import total
from refresher.clock import Clock
from refresher.errors import ControlError, ControlUnavailable
from refresher.ops.control_client import ControlClient
from refresher.ops.protocol import Fault
from refresher.times import written

REDRAW = 2.0
"""Seconds between two looks."""

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""A screen of its own without a cursor, and back to what was there before."""

HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"

AWAY = "no daemon is running: nothing is being refreshed"


@asynccontextmanager
async def screen() -> AsyncIterator[Callable[[Sequence[str]], None]]:
    """Give what shows lines on a screen of its own; whatever ends the block, it is left."""
    click.echo(ENTER, nl=False)
    try:
        yield _show
    finally:
        click.echo(LEAVE, nl=False)


async def watch(client: ControlClient, asked: Asked, clock: Clock) -> None:
    """Show what is ASKED for until cancelled, also while no daemon answers.

    Raises:
        ControlError: the daemon refuses the question.
    """
    async with screen() as show:
        while True:
            size = shutil.get_terminal_size()
            show(await frame(client, asked, clock.now(), size.columns, size.lines - 1))
            await anyio.sleep(REDRAW)


async def frame(
    client: ControlClient, asked: Asked, now: float, width: int, height: int
) -> list[str]:
    """The lines of one look, at most HEIGHT."""
    try:
        if asked.grant is not None:
            view, parked = await one(client.call, asked.grant)
            told = [] if view is None else page(view, now, width)
            return [*told, *drawing.parked(parked, now, width)][:height]
        seen = await overview(client.call, asked, max(1, min(height, 100)))
    except ControlUnavailable:
        return [f"{written(now)}  {AWAY}"]
    except ControlError as error:
        if error.kind not in {Fault.NO_ANSWER, Fault.STOPPED}:
            raise
        return [f"{written(now)}  {error}"]
    heading, blocks = drawing.table(seen.views, now, width)
    first = total(seen.totals) if seen.totals else ", ".join(asked.filters.values())
    lines = [*drawing.wrapped(f"{written(now)}  {first}", width), heading]
    there = max(sum(seen.totals.values()), len(blocks))
    for shown, block in enumerate(blocks):
        rest = len(blocks) > shown + 1 or there > shown + 1
        if len(lines) + len(block) + rest > height:
            break
        lines += block
    else:
        shown = len(blocks)
    more = [f"and {there - shown} more"] if there > shown else []
    return [*lines[: height - len(more)], *more]


def _show(lines: Sequence[str]) -> None:
    text = (REST_OF_LINE + "\r\n").join(lines)
    click.echo(HOME + text + REST_OF_LINE + REST_OF_SCREEN, nl=False)
