"""Keeps a task running: a bug ends one turn of it, not the daemon, and not in silence."""

from collections.abc import Awaitable, Callable
from types import TracebackType

import anyio

from refresher.logs import Event, emit, frames

PAUSE = 1.0
"""Seconds between a task's end by a bug and its next start: never a hot loop."""


def report_bug(task: str, error: Exception, *, grant: str | None = None) -> None:
    """Say where ERROR came from; its text may quote a secret and is left out."""
    named = {} if grant is None else {"grant": grant}
    emit(
        Event.TASK_RESTARTED,
        task=task,
        error=type(error).__name__,
        traceback=frames(error),
        **named,
    )


async def supervise(task: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run WORK; start it again when it breaks, and return when it returns."""
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001  supervision: every task here must live on
            report_bug(task, error)
            await anyio.sleep(PAUSE)
        else:
            return


class Shield:
    """Keeps cancellation away from parts of a task, one after another: ``with shield``.

    A scope for each of a thousand parts a second costs more than what it does.

    Args:
        scope: entered by the task, and shielded in these parts alone.
    """

    def __init__(self, scope: anyio.CancelScope) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        self._scope.shield = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._scope.shield = False
