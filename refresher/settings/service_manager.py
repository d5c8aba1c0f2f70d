"""What systemd tells a service through its environment (sd_notify(3), sd_watchdog_enabled(3))."""

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """How to tell the service manager that the daemon lives; both None without one."""

    notify_socket: str | None
    """A path, or an abstract name after ``@``."""
    watchdog_usec: str | None
    """Microseconds of silence taken for death, as the manager wrote them."""


def service_manager(
    environment: Mapping[str, str] | None = None, *, pid: int | None = None
) -> ServiceManager:
    """What the manager of this process wants.

    Args:
        environment: None means that of the process.
        pid: None means that of the process; a watchdog meant for another pid is not ours.
    """
    variables = os.environ if environment is None else environment
    meant_for = variables.get("WATCHDOG_PID")
    is_ours = meant_for in {None, str(os.getpid() if pid is None else pid)}
    return ServiceManager(
        notify_socket=variables.get("NOTIFY_SOCKET"),
        watchdog_usec=variables.get("WATCHDOG_USEC") if is_ours else None,
    )
