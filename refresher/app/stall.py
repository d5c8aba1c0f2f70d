"""Ends a daemon whose scheduler stands still, once that can cost nothing.

Nothing is refreshed any more by such a daemon, and only a new process will mend it. It is
never ended while an exchange is out or an answer is in its memory alone: until then it may
hold the only good refresh token (guarantee G3).
"""

import os
from collections.abc import Callable

import anyio

from refresher.clock import Clock
from refresher.logs import Event, emit, flush

STALLED_AFTER = 600.0
"""Seconds without a turn of the scheduler; it turns every 30 s when idle."""

LOOK_EVERY = 2.0
"""Seconds between looks; a process that was stopped counts no more for it."""


def end_at_once() -> None:
    """End like a crash, as a service manager expects one: what hangs cannot be ended in order."""
    flush()
    os._exit(os.EX_SOFTWARE)


async def end_when_stalled(
    turned_at: Callable[[], float],
    at_risk: Callable[[], int],
    clock: Clock,
    *,
    end: Callable[[], None] = end_at_once,
) -> None:
    """Watch for ever; call END when the scheduler is stalled and nothing is at risk.

    Args:
        turned_at: monotonic instant of the scheduler's last turn.
        at_risk: exchanges that are out, and answers that are in memory alone.
    """
    seen, still_for, is_told = turned_at(), 0.0, False
    looked_at = clock.monotonic()
    while True:
        await anyio.sleep(LOOK_EVERY)
        now, turned = clock.monotonic(), turned_at()
        if turned != seen:
            seen, still_for, is_told = turned, 0.0, False
        else:
            # The loop itself may have stood still: the scheduler gets its chance first.
            still_for += min(now - looked_at, 2 * LOOK_EVERY)
        looked_at = now
        if still_for < STALLED_AFTER:
            continue
        count = at_risk()
        if not is_told or not count:
            is_told = True
            emit(Event.DAEMON_STALLED, count=count, waited_ms=round(still_for * 1000))
        if not count:
            end()
            return
