"""SIGHUP, SIGTERM and SIGINT, from the first moment of a daemon's process to its last.

A signal that meets no handler kills. One that comes while settings are read, a standby waits or the
vault is opened must be kept until somebody can act on it, and one that comes at the very
end must not turn an orderly end into a death.
"""

import asyncio
import signal
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

import anyio

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Signals:
    """Receives the signals of this process, and gives each to whoever asks for it first."""

    def __init__(self) -> None:
        self._heard: deque[signal.Signals] = deque()
        self._news = anyio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_holding = False
        self.is_stopping = False
        """SIGTERM or SIGINT has come."""

    @classmethod
    def received(cls) -> Self:
        """Receive them from now on, those included that were held back until now.

        Until ``hold`` nothing is open that could be lost: SIGTERM and SIGINT end the process
        where it stands.
        """
        signals = cls()
        for number in SIGNALS:
            signal.signal(number, signals._receive)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return signals

    def hold(self) -> None:
        """Keep every signal for whoever asks: from here on the process ends in order."""
        self._is_holding = True

    @contextmanager
    def heard_in_loop(self) -> Iterator[None]:
        """Wake those of the running event loop who wait for a signal."""
        self._loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            self._loop = None

    def ignore(self) -> None:
        """Hear nothing any more: the process is about to end by itself, and well."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def was_hung_up(self) -> bool:
        """Whether SIGHUP has come and nobody was given it; it counts as given now."""
        count = self._heard.count(signal.SIGHUP)
        for _ in range(count):
            self._heard.remove(signal.SIGHUP)
        return count > 0

    async def stopping(self) -> None:
        """Wait until SIGTERM or SIGINT has come; it is still given to whoever asks."""
        while not self.is_stopping:
            await self._news.wait()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> signal.Signals:
        """The next signal, also one that came before anybody asked."""
        while not self._heard:
            await self._news.wait()
        return self._heard.popleft()

    def _receive(self, number: int, _: FrameType | None) -> None:
        is_stop = number != signal.SIGHUP
        if is_stop and not self._is_holding:
            # The interpreter takes its handlers away as it ends: the next signal would kill it.
            self.ignore()
            raise SystemExit(0)
        self.is_stopping |= is_stop
        self._heard.append(signal.Signals(number))
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()
