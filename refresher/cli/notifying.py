"""``refresher notify``: whether whoever is to be told can be told."""

import json

import click

from refresher.cli.calling import as_json_option, load_completely, run
from refresher.cli.entry import Exit
from refresher.cli.saying import say
from refresher.clock import SystemClock
from refresher.domain.notifications import TEST, Notification, Target
from refresher.errors import RefresherError

SAID = "a test of refresher: whoever reads this would be told what happens"


@click.command()
@as_json_option
@click.pass_context
def notify(context: click.Context, as_json: bool) -> None:  # noqa: FBT001  click's flag
    """Send a test message to each [[notify]], and tell what came of it.

    Needs no daemon. Exits 1 if somebody has not taken it; nothing is tried again.
    """
    targets = load_completely(context.obj).settings.targets
    if not targets:
        raise RefresherError("there is no [[notify]] in the settings")
    results = run(_try_each, targets)
    if as_json:
        say(json.dumps([{"setting": setting, "fault": fault} for setting, fault in results]))
    else:
        for setting, fault in results:
            said = "has taken it" if fault is None else f"has not taken it ({fault})"
            say(f"{setting} {said}", err=fault is not None)
    is_bad = any(fault is not None for _, fault in results)
    context.exit(Exit.FAILED if is_bad else Exit.DONE)


async def _try_each(targets: tuple[Target, ...]) -> list[tuple[str, str | None]]:
    # A third of a command's time to start.
    from refresher.ops.notifications.bursts import composed  # noqa: PLC0415  see above
    from refresher.ops.notifications.sending import send  # noqa: PLC0415  see above

    now = SystemClock().now()
    results = []
    for place, target in enumerate(targets):
        body = composed(TEST, now, SAID, {"setting": target.setting})
        message = Notification(target=place, made_at=now, due_at=now, body=body)
        results.append((target.setting, await send(target, message, now)))
    return results


COMMANDS = (notify,)
