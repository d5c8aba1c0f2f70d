"""Keeps a stopped holder of the vault's lock from ever waking.

A process that is stopped (SIGSTOP, a debugger) keeps its lock, and what it sends on waking
nobody can call back. Whoever stands by on the same machine can do what no lease can:
SIGKILL ends a stopped process without letting it run another instruction (signal(7)), the
kernel drops the lock, and what the dead one left open follows the rule of a crash.

Only a process seen stopped at every look for a while is ended, never one that is slow or
hangs: it may hold an answer in memory.
"""

import contextlib
import os
import signal
from pathlib import Path

from refresher.vault.sqlite.file_lock import is_held_by

LOOKS = 100
"""Looks in a row at which a holder must have been stopped: 10 s of a standby's looks."""

STOPPED = {"T", "t"}
"""Process states of /proc (proc(5)): stopped by a signal, stopped by a tracer."""


class Fence:
    """Watches the holder of one lock file; needs Linux, elsewhere it sees nobody stopped."""

    def __init__(self, lock: Path) -> None:
        self._lock = lock
        self._seen: tuple[int, str] | None = None
        self._looks = 0

    def ends(self, pid: int | None) -> bool:
        """Look once at the holder PID; whether this look ended it."""
        started = None if pid is None else self._stopped_holder(pid)
        if pid is None or started is None:
            self._seen, self._looks = None, 0
            return False
        if self._seen != (pid, started):
            self._seen, self._looks = (pid, started), 0
        self._looks += 1
        return self._looks >= LOOKS and self._kill(pid, started)

    def _stopped_holder(self, pid: int) -> str | None:
        """When PID started, as text, if it is stopped and holds the lock."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The command, in parentheses, may hold anything.
            fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2]
            state, started = fields.split()[0], fields.split()[19]
            if state in STOPPED and is_held_by(self._lock, pid):
                return started
        return None

    def _kill(self, pid: int, started: str) -> bool:
        """End PID, unless it is another process or runs by now."""
        with contextlib.suppress(OSError, AttributeError):  # no pidfd: not this system
            process = os.pidfd_open(pid)
            try:
                if self._stopped_holder(pid) == started:
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    self._seen = None
                    return True
            finally:
                os.close(process)
        return False
