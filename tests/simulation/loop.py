"""One process's event loop under a time that somebody else moves.

Every simulated process has a loop of its own and all loops share one virtual time. A
crash is a loop that never turns again; a paused process is one that does not turn for a
while. The world decides which loop runs its next callback, so that between any two
callbacks of a process anything may happen to it.
"""

import asyncio
import heapq
import math
import warnings
from asyncio import events
from asyncio import tasks as tasks_module
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, Unpack, cast

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class NumberedTask(asyncio.Task[Any]):
    """A task whose hash does not depend on where it lies in memory.

    anyio iterates over sets of tasks: their order must be that of the last replay.
    """

    def __init__(self, coro: Coroutine[Any, Any, Any], *, number: int, **parts: Any) -> None:
        self.number = number
        super().__init__(coro, **parts)
        self._log_destroy_pending = False  # a process that dies leaves its tasks pending

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.BaseEventLoop):
    """Holds what is to run; ``run_one`` runs the next callback."""

    def __init__(
        self,
        *,
        time: Callable[[], float],
        broken: Callable[[str, BaseException | None], None],
    ) -> None:
        super().__init__()
        self._time, self._broken = time, broken
        self._soon: deque[asyncio.Handle] = deque()
        self._later: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0
        self._is_buried = False
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._time()

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._soon.append(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._later, (when, self._count, handle))
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._is_buried:  # what a dead process left unread is nobody's
            self._broken(str(context.get("message")), context.get("exception"))

    def next_at(self) -> float:
        """When the next callback is to run; never is infinity."""
        while self._soon and self._soon[0].cancelled():
            self._soon.popleft()
        if self._soon:
            return -math.inf
        while self._later and self._later[0][2].cancelled():
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else math.inf

    def run_one(self) -> None:
        """Run the callback ``next_at`` spoke of; what is due joins the queue first."""
        now = self._time()
        while self._later and self._later[0][0] <= now:
            self._soon.append(heapq.heappop(self._later)[2])
        handle = self._soon.popleft()
        if handle.cancelled():
            return
        events._set_running_loop(self)
        try:
            handle._run()
        finally:
            events._set_running_loop(None)

    def bury(self) -> None:
        """Forget every task where it stands; nothing of them may reach the outside."""
        self._is_buried = True
        self._soon.clear()
        self._later.clear()
        tasks = cast("set[NumberedTask]", asyncio.all_tasks(self))
        events._set_running_loop(self)
        try:
            for task in sorted(tasks, key=lambda task: task.number):
                tasks_module._enter_task(self, task)  # anyio's scopes ask who leaves them
                _close(cast("Coroutine[Any, Any, Any]", task.get_coro()))
                tasks_module._leave_task(self, task)
        finally:
            events._set_running_loop(None)
        self._soon.clear()
        self._later.clear()
        self.close()

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Any, **parts: Any
    ) -> "NumberedTask":
        self._count += 1
        return NumberedTask(coro, number=self._count, loop=loop, **parts)


def _close(coroutine: Coroutine[Any, Any, Any]) -> None:
    """End COROUTINE; what it tries while it unwinds belongs to a process that is no more."""
    for _ in range(5):
        with warnings.catch_warnings(), suppress(BaseException):
            warnings.simplefilter("ignore")  # a task that never began to run
            coroutine.close()
            return
