"""Threads of the vault's own, started when it is opened.

A process that can start no more threads later goes on committing, reading and rescuing;
and a disk that hangs stops the thread that asked it, never the event loop.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Protocol, TypeVar

from refresher.errors import VaultUnavailable
from refresher.threads import in_thread_of_its_own

T = TypeVar("T")

NO_THREADS = (
    "the vault needs threads and the system gives none: raise TasksMax or the limit on processes"
)

Done = Callable[[BaseException | None], None]
"""Called in the event loop once a function has ended: with what it raised, or None."""


class Thread(Protocol):
    """Runs functions one after another, in the order they were given."""

    def submit(self, function: Callable[[], object], done: Done) -> None:
        """Run FUNCTION, then DONE in the event loop of the caller."""

    def end(self, within: float) -> bool:
        """Take no more; whether everything given has ended WITHIN seconds."""


class OwnThread:
    """A thread of the operating system that runs from its making to its ``end``.

    It never keeps a process from ending: whatever it does then, a crash may undo as well.

    Raises:
        VaultUnavailable: the system has no thread to give.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[
            tuple[Callable[[], object], Done, asyncio.AbstractEventLoop] | None
        ] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise VaultUnavailable(NO_THREADS) from error

    def submit(self, function: Callable[[], object], done: Done) -> None:
        self._jobs.put((function, done, asyncio.get_running_loop()))

    def end(self, within: float) -> bool:
        self._jobs.put(None)
        self._thread.join(within)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, done, loop = job
            error: BaseException | None = None
            try:
                function()
            except BaseException as raised:  # noqa: BLE001  told to whoever asked
                error = raised
            with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                loop.call_soon_threadsafe(done, error)
            del job, function, done, loop, error  # what they hold may be a secret


async def out_of_the_loop(work: Callable[[], T]) -> T:
    """Run WORK, which may hang in the disk and raises no RuntimeError, where it stops no loop.

    Raises:
        VaultUnavailable: the system has no thread to give.
    """
    try:
        return await in_thread_of_its_own(work)
    except RuntimeError as error:
        raise VaultUnavailable(NO_THREADS) from error
