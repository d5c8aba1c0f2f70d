"""Writes lines in a thread of its own, so that nobody waits for whoever reads them.

A pipe that is full, a stalled journal, a terminal that was stopped, a full disk behind a
redirected stdout: all of them hold up this thread and nothing else. Meanwhile lines are
kept, up to a bound; what is beyond it is dropped, counted, and told once there is room.
"""

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

ROUTINE_BYTES = URGENT_BYTES = 4 * 1024 * 1024
"""Bytes of lines kept of each kind while nobody reads: about 15,000 lines. Warnings and errors
have a queue of their own, so that no amount of routine can push them out."""

AT_ONCE = 64 * 1024
"""Bytes handed to the system in one call."""

GATHER = 0.01
"""Seconds that the thread rests after it has written: a line for each of a thousand refreshes
a second must not wake it a thousand times."""

RETRY = 0.2
"""Seconds until what could not be written is tried again."""

END_WITHIN = 1.0
"""Seconds the end of a process may wait for its last lines."""


class _Queue:
    """Lines of one kind that wait to be written."""

    def __init__(self, limit: int) -> None:
        self.lines: deque[tuple[int, bytes]] = deque()
        self.limit = limit
        self.size = 0
        self.is_overflowing = False
        """A line was dropped; none is taken until half of those kept are written, so that
        what is missing is one gap and not a sieve."""


class LineWriter:
    """Takes lines from any thread and writes them in the order they came.

    Args:
        stream: written through its descriptor, if it has one: a thread that hangs inside a
            buffered stream would keep the interpreter from ending.
        tell_lost: logs that as many lines as it is given were dropped.
    """

    def __init__(self, stream: TextIO, *, tell_lost: Callable[[int], None]) -> None:
        self._write = _way_to(stream)
        self._tell_lost = tell_lost
        self._routine, self._urgent = _Queue(ROUTINE_BYTES), _Queue(URGENT_BYTES)
        self._changed = threading.Condition()
        self._taken = 0
        """Lines taken so far: the next one's place in the order."""
        self._lost = 0
        self._is_idle = True
        self._is_hurried = False
        """Somebody waits for the last line."""
        self._is_closed = False
        self._thread: threading.Thread | None = None
        atexit.register(self.close)
        self._start()

    def put(self, line: str, *, is_urgent: bool) -> None:
        """Write LINE as soon as possible; never waits for the stream and never raises."""
        encoded = f"{line}\n".encode("utf-8", "backslashreplace")
        queue = self._urgent if is_urgent else self._routine
        with self._changed:
            if queue.is_overflowing or queue.size + len(encoded) > queue.limit:
                queue.is_overflowing = True
                self._lost += 1
                return
            queue.lines.append((self._taken, encoded))
            queue.size += len(encoded)
            self._taken += 1
            if self._is_idle:
                self._is_idle = False
                self._changed.notify_all()
        self._start()

    def flush(self, within: float) -> bool:
        """Wait until every line taken so far is written, for WITHIN seconds; whether it is."""
        with self._changed:
            self._is_hurried = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._is_idle, within)

    def close(self, within: float = END_WITHIN) -> None:
        """Write what can be written in WITHIN seconds; the thread ends, unless it hangs."""
        self.flush(within)
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        atexit.unregister(self.close)

    def _start(self) -> None:
        """Start the thread, or leave that to the next line where none can be started."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="log writer", daemon=True)
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while True:
            chunk = self._next_chunk()
            if chunk is None:
                return
            self._write_whole(chunk)
            self._tell_gap()
            self._gather()

    def _gather(self) -> None:
        """Let more lines come, unless somebody waits for those there are."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_hurried or self._is_closed, GATHER)

    def _next_chunk(self) -> bytes | None:
        """The lines to be written next, in their order; None at the end."""
        with self._changed:
            while not (self._routine.lines or self._urgent.lines):
                self._is_idle, self._is_hurried = True, False
                self._changed.notify_all()
                if self._is_closed:
                    return None
                self._changed.wait()
            chunk = bytearray()
            while len(chunk) < AT_ONCE and (self._routine.lines or self._urgent.lines):
                waiting = [queue for queue in (self._routine, self._urgent) if queue.lines]
                queue = min(waiting, key=lambda queue: queue.lines[0][0])
                _, line = queue.lines.popleft()
                queue.size -= len(line)
                chunk += line
            return bytes(chunk)

    def _write_whole(self, chunk: bytes) -> None:
        """Write CHUNK to its last byte, however long that takes: no line is ever cut in two."""
        rest = memoryview(chunk)
        while rest and not self._is_closed:
            try:
                rest = rest[self._write(rest) :]
            except (OSError, ValueError):  # ValueError: somebody closed the stream
                # Also of a pipe that would block: it is not worth a second way to wait.
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closed, RETRY)

    def _tell_gap(self) -> None:
        """Say how many lines were dropped, once there is room for those that come."""
        queues = (self._routine, self._urgent)
        with self._changed:
            is_told_later = any(queue.size > queue.limit / 2 for queue in queues)
            # Whoever writes after this one has lost nothing.
            if not self._lost or is_told_later or self._is_closed:
                return
            lost, self._lost = self._lost, 0
            for queue in queues:
                queue.is_overflowing = False
            self._tell_lost(lost)


def _way_to(stream: TextIO) -> Callable[[memoryview], int]:
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # it is in memory
        return lambda text: _write_text(stream, text)
    return lambda text: os.write(descriptor, text)


def _write_text(stream: TextIO, text: memoryview) -> int:
    stream.write(str(text, "utf-8"))
    stream.flush()
    return len(text)
