"""What Python and the libraries say of themselves: lines of ours, few, and without secrets.

asyncio, aiohttp and others log to loggers of the standard library, and threads and
finalizers end with tracebacks on stderr. Their texts quote requests, bytes and arguments, so
a line has the place, the class of the exception and its frames, and of the text no more than
its first words.
"""

import logging
import re
import sys
import threading

from refresher.logs import Event, emit, frames

NOT_AGAIN_FOR = 60.0
"""Seconds until the same complaint is told again, with how often it came meanwhile."""

MOST_KINDS = 100
"""Complaints that are told apart; those beyond count as one."""

_FIRST_WORDS = re.compile(r"(?:[A-Za-z]{1,12}(?: |$)){1,8}")
"""Whatever else stands in a text may come from outside."""

_QUIET_WORDS = ("asyncio", "aiohttp")
"""Loggers whose texts begin with words of their own."""


def take_over() -> None:
    """Send to our log what would go to stderr, from now on and for the whole process."""
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.handlers[:] = [_Complaints(logging.WARNING)]
    root.setLevel(logging.WARNING)
    python = logging.getLogger("python")

    def in_thread(ended: threading.ExceptHookArgs) -> None:
        python.error("a thread ended", exc_info=ended.exc_value)

    def unraisable(dropped: "sys.UnraisableHookArgs") -> None:
        python.error("an exception was dropped", exc_info=dropped.exc_value)

    threading.excepthook = in_thread
    sys.unraisablehook = unraisable


class _Complaints(logging.Handler):
    """Makes a line of ours of every record, as often as it may."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._told: dict[tuple[str, str], tuple[float, int]] = {}
        """When each kind was told last, and how often it came since."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        place = f"{record.module}:{record.lineno}"
        kind = (record.name, f"{place} {type(error).__name__}")
        if kind not in self._told and len(self._told) >= MOST_KINDS:
            kind = ("others", "")
        told_at, count = self._told.get(kind, (None, 0))
        if told_at is not None and 0 <= record.created - told_at < NOT_AGAIN_FOR:
            self._told[kind] = (told_at, count + 1)
            return
        self._told[kind] = (record.created, 0)
        emit(
            Event.LIBRARY_COMPLAINED,
            name=record.name,
            reason=_first_words(record),
            path=place,
            error=None if error is None else type(error).__name__,
            traceback=[] if error is None else frames(error),
            count=count + 1,
        )


def _first_words(record: logging.LogRecord) -> str | None:
    if not record.name.startswith((*_QUIET_WORDS, "python", "refresher")):
        return None
    found = _FIRST_WORDS.match(str(record.msg))
    return found.group().strip() if found else None
