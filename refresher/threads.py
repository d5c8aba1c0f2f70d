"""Threads for what may hang, on a file system or in somebody's command.

Those of the event loop would keep the process from ending until they come back.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def in_thread_of_its_own(work: Callable[[], T]) -> T:
    """Run WORK in a thread that nobody has to wait for, not even the end of the process.

    Raises:
        RuntimeError: no thread can be started.
    """
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  it is raised where the result is awaited
            done.set_exception(error)
        else:
            done.set_result(result)

    threading.Thread(target=run, name="on its own", daemon=True).start()
    return await asyncio.wrap_future(done)
