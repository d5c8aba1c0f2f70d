"""Telling systemd how the daemon is: sd_notify(3) without a library.

The two values come from the environment, which only the settings read: NOTIFY_SOCKET and
WATCHDOG_USEC (the latter only if WATCHDOG_PID is absent or this process).
"""

import socket
from collections.abc import Callable

import anyio

from refresher.errors import SettingsError
from refresher.logs import Event, emit

MICROSECONDS = 1_000_000

SEND_TIMEOUT = 0.2
"""Seconds to wait for room in systemd's queue: the event loop waits along."""


class Notifier:
    """Sends state to the service manager; does nothing without a NOTIFY_SOCKET.

    A manager that cannot be told is reported once and never stops the daemon.

    Args:
        notify_socket: a path, or an abstract name after ``@``.
        watchdog_usec: microseconds after which silence is taken for death.
        monotonic: seconds of CLOCK_MONOTONIC.

    Raises:
        SettingsError: watchdog_usec is not a positive integer.
    """

    def __init__(
        self,
        notify_socket: str | None,
        watchdog_usec: str | None,
        *,
        monotonic: Callable[[], float],
    ) -> None:
        self._address = notify_socket
        self._watchdog_interval = _interval(watchdog_usec) if notify_socket else None
        self._monotonic = monotonic
        self._lost = False

    @property
    def is_heard(self) -> bool:
        """Whether there is a service manager at all."""
        return bool(self._address)

    def ready(self) -> None:
        """The daemon has started, or has finished reloading."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The daemon reads its configuration again; ``ready`` ends this."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(self._monotonic() * MICROSECONDS)}")

    def stopping(self) -> None:
        """The daemon has begun to end."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send(f"STATUS={' '.join(text.split())}")

    def extend_timeout(self, seconds: float) -> None:
        """Ask for SECONDS from now before the start or stop under way is given up."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * MICROSECONDS)}")

    async def feed_watchdog(self) -> None:
        """Feed the watchdog at half its interval: it starves when the event loop stands still.

        Returns at once if there is no watchdog, otherwise never.
        """
        if self._watchdog_interval is None:
            return
        while True:
            self._send("WATCHDOG=1")
            await anyio.sleep(self._watchdog_interval / 2)

    def _send(self, state: str) -> None:
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(SEND_TIMEOUT)
                channel.sendto(state.encode(errors="replace"), address)
        except OSError as error:
            if not self._lost:
                emit(Event.SUPERVISOR_LOST, path=self._address, reason=_reason(error))
            self._lost = True
        else:
            self._lost = False


def _interval(watchdog_usec: str | None) -> float | None:
    """Seconds of the watchdog's interval."""
    if watchdog_usec is None:
        return None
    if not (watchdog_usec.isascii() and watchdog_usec.isdigit() and int(watchdog_usec)):
        raise SettingsError([f"WATCHDOG_USEC: {watchdog_usec!r} is no number of microseconds"])
    return int(watchdog_usec) / MICROSECONDS


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
