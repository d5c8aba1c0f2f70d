"""Structured logs: one line for each event, rendered here and written by a thread of its own.

JSON when stdout is not a terminal, readable lines when it is. An event that is not in
``EVENTS`` cannot be emitted; a field that is not in ``FIELDS`` is replaced by ``***``, so
a secret can reach a line only through a name chosen in the catalogue (guarantee G5).
"""

import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from refresher.acting import who
from refresher.logs.catalogue import EVENTS, Event
from refresher.logs.fields import FIELDS
from refresher.logs.lean import EventDict, Processor, WrappedLogger, structlog
from refresher.logs.levels import Entry, Level
from refresher.logs.rendering import FIRST, INSTANTS, ForTerminal, as_json, date
from refresher.logs.writer import END_WITHIN, LineWriter
from refresher.text import plain_value

__all__ = [
    "EVENTS",
    "FIELDS",
    "Entry",
    "Event",
    "Level",
    "configure",
    "emit",
    "flush",
    "frames",
    "only_known_fields",
    "subscribed",
]

_writers: list[LineWriter] = []
"""The writer in use, if any."""

Subscriber = Callable[[Event, Mapping[str, object]], None]
"""Is told every event with its fields, also one below the level that is written."""

_subscribers: list[Subscriber] = []


@contextmanager
def subscribed(subscriber: Subscriber) -> Iterator[None]:
    """Tell SUBSCRIBER every event until the block ends, or until it fails.

    It is called where the event happens, in whatever thread: it does no more than to count.
    """
    _subscribers.append(subscriber)
    try:
        yield
    finally:
        if subscriber in _subscribers:
            _subscribers.remove(subscriber)


def emit(event: Event, **fields: object) -> None:
    """Log one line for EVENT at its catalogue level; never fails and never waits."""
    actor = who()
    if actor.uid is not None:
        fields = {**fields, "uid": actor.uid, "pid": actor.pid}
    _logger().log(_NUMBERS[EVENTS[event].level], event.value, **fields)
    for subscriber in tuple(_subscribers):
        try:
            subscriber(event, fields)
        except Exception as error:  # noqa: BLE001  supervision: an event is told in the midst of an exchange
            if subscriber in _subscribers:
                _subscribers.remove(subscriber)
            emit(
                Event.OPERATION_FAILED,
                task="subscriber of the log",
                error=type(error).__name__,
                traceback=frames(error),
            )


_NUMBERS = {level: getattr(logging, level.upper()) for level in Level}
_bound: list[Any] = []
"""The processors that structlog was configured with last, and a logger that uses them."""


def _logger() -> Any:
    """A logger of the present configuration: to make one takes longer than to use it."""
    processors = structlog.get_config()["processors"]
    if not _bound or _bound[0] is not processors:
        _bound[:] = [processors, structlog.get_logger().bind()]
    return _bound[1]


def flush(within: float = END_WITHIN) -> bool:
    """Wait until everything logged so far is written, for WITHIN seconds; whether it is."""
    return all(writer.flush(within) for writer in _writers)


def frames(error: BaseException) -> list[str]:
    """Where ERROR came from, without its text, which may quote what it failed on."""
    return [
        f"{frame.filename.rpartition('/refresher/')[2]}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]


def configure(
    *, level: str = "info", output: TextIO | None = None, json_lines: bool | None = None
) -> None:
    """Send lines at LEVEL and above to OUTPUT (default stdout).

    Args:
        json_lines: None decides by whether OUTPUT is a terminal.
    """
    stream = output or sys.stdout
    is_terminal = stream.isatty()
    for_machines = not is_terminal if json_lines is None else json_lines
    renderer: Processor = as_json if for_machines else ForTerminal(colours=is_terminal)
    while _writers:
        _writers.pop().close()
    _writers.append(
        LineWriter(stream, tell_lost=lambda count: emit(Event.LOG_INTERRUPTED, count=count))
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(),
            only_known_fields,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=_Lines(_writers[0]).as_factory,
    )


class _Lines:
    """What structlog calls with a rendered line, by the level's name."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def as_factory(self, *_: object) -> "_Lines":
        """The one logger, as structlog asks for it."""
        return self

    def info(self, line: str) -> None:
        """Take a line of routine."""
        self._writer.put(line, is_urgent=False)

    def error(self, line: str) -> None:
        """Take a line that says that something is wrong."""
        self._writer.put(line, is_urgent=True)

    debug, warning, critical = info, error, error


_AS_THEY_ARE = frozenset({int, float, bool, type(None)})
_INSTANTS = INSTANTS | {"timestamp"}
_KNOWN = FIELDS | {"event", "level", "timestamp"}


def only_known_fields(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Blank every value whose field is not in the catalogue; show the others as plain text.

    Others wrote some of them: a line is one line, and no terminal obeys it. Instants, its own
    included, are dates.
    """
    shown: dict[str, object] = dict.fromkeys(filter(event.__contains__, FIRST))
    for name, value in event.items():
        if name not in _KNOWN:
            shown[name] = "***"
        elif name in _INSTANTS:
            shown[name] = date(plain_value(value))
        elif type(value) in _AS_THEY_ARE or (type(value) is str and value.isprintable()):
            shown[name] = value  # nearly all: one of them is no line of its own for it
        else:
            shown[name] = plain_value(value)
    return shown
