"""``refresher demo``: see it work without an account anywhere."""

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from refresher.cli.calling import run
from refresher.cli.entry import Exit
from refresher.cli.status.wording import COLOURS
from refresher.cli.typed import DURATION
from refresher.clock import Clock, SystemClock
from refresher.demo.performance import Performance, performing
from refresher.demo.stage import LIFETIME, Stage
from refresher.domain.grants import GrantState

REDRAW = 0.5
PROGRESS = 5.0
"""Seconds between redrawn tables on a terminal, and between plain lines elsewhere."""

BAR = 20
"""Characters of the bar that shows a token's remaining life."""


@click.command()
@click.option(
    "--for",
    "duration",
    type=DURATION,
    default="60s",
    show_default=True,
    help="How long to go on, such as 90, 20s or 2m.",
)
@click.option(
    "--grants",
    type=click.IntRange(1, 500),
    default=6,
    show_default=True,
    help="How many grants to keep fresh.",
)
@click.option("--faults", is_flag=True, help="503s, 429s, lost and slow answers among the others.")
@click.option("--json", "as_json", is_flag=True, help="Summary as JSON on the last line.")
@click.pass_context
def demo(
    context: click.Context,
    duration: float,
    grants: int,
    faults: bool,  # noqa: FBT001  click's flag
    as_json: bool,  # noqa: FBT001  click's flag
) -> None:
    """Watch grants being kept fresh, in a world of their own.

    Starts a Valkey, an authorization server whose access tokens live 20 seconds and whose
    refresh tokens rotate, and the real daemon; reads every token four times a second and
    uses it. Ends by itself with a summary; exits 0 only if no read ever missed.
    """
    summary = run(_demo, duration, grants, faults, as_json)
    if as_json:
        click.echo(json.dumps(summary))
    else:
        _print_summary(summary)
    failed = summary["missed_reads"] or summary["rejected"] or not summary["reads"]
    context.exit(Exit.FAILED if failed else Exit.DONE)


async def _demo(duration: float, grants: int, faults: bool, as_json: bool) -> dict[str, Any]:  # noqa: FBT001  handed on from click
    async with performing(grants=grants, with_faults=faults) as performance:
        with anyio.move_on_after(duration):
            await _show(performance, SystemClock(), as_json=as_json)
        return {"seconds": duration, **performance.summary()}


async def _show(performance: Performance, clock: Clock, *, as_json: bool) -> None:
    """Show what happens until cancelled: a live table on a terminal, lines elsewhere."""
    stage = performance.stage
    program = "refresher" if Path(sys.argv[0]).name == "refresher" else "python -m refresher"
    command = f"{program} --config {stage.config} token demo-1"
    click.echo(f"read a token the way a consumer would, in a second terminal:\n\n  {command}\n")
    console = Console(highlight=False)
    if console.is_terminal and not as_json:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                answer: Any = await stage.control.call("grants")
                live.update(_table(answer["grants"], stage, clock.now()), refresh=True)
                await anyio.sleep(REDRAW)
    while True:
        await anyio.sleep(PROGRESS)
        summary = performance.summary()
        click.echo(
            f"{summary['exchanges']} exchanges, {summary['rotations']} rotations, "
            f"{sum(summary['injected'].values())} faults, {summary['reads']} reads, "
            f"{summary['missed_reads']} missed, {summary['rejected']} rejected"
        )


def _table(views: list[dict[str, Any]], stage: Stage, now: float) -> Table:
    table = Table(box=None, header_style="bold")
    for heading in ("GRANT", "STATE", "VERSION", "TIME LEFT", "LAST EXCHANGE"):
        table.add_column(heading)
    last = {record.family_id: record for record in stage.sandbox.log}
    for view in sorted(views, key=lambda view: int(view["name"].rpartition("-")[2])):
        state = GrantState(view["state"])
        left = max((view["expires_at"] or now) - now, 0.0)
        full = round(BAR * min(left / LIFETIME, 1.0))
        record = last.get(stage.families[view["name"]])
        told = "-" if record is None else record.fault or record.error or "refreshed"
        table.add_row(
            view["name"],
            Text(state.value, style=COLOURS[state]),
            str(view["version"]),
            Text(f"{'█' * full}{'░' * (BAR - full)} {left:4.0f}s", style=COLOURS[state]),
            told,
        )
    return table


def _print_summary(summary: dict[str, Any]) -> None:
    injected = summary["injected"]
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(injected.items()))
    latency = summary["publish_ms"]
    click.echo(f"faults injected     {told or 'none'}")
    click.echo(f"exchanges           {summary['exchanges']}, rotations {summary['rotations']}")
    click.echo(f"reads               {summary['reads']}")
    click.echo(f"found no token      {summary['missed_reads']}")
    click.echo(f"rejected            {summary['rejected']}")
    click.echo(f"answer to consumer  p50 {latency['p50']} ms, p99 {latency['p99']} ms")


COMMANDS = (demo,)
