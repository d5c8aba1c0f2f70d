"""How a line looks: event and grant first, every instant in one form, and words for a person.

``INSTANTS`` are fields in unix seconds; lines show them as RFC 3339 does, in UTC. Fields whose
name ends in ``_s`` or ``_ms`` are durations: JSON keeps the number, a terminal gets words.
"""

import json
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache

from refresher.logs.lean import EventDict, WrappedLogger

FIRST = ("event", "grant", "client", "timestamp", "level")
"""What a JSON line begins with; the other keys follow as they were given."""

INSTANTS = frozenset(
    {
        "copied_at", "due_at", "ends_at", "expires_at", "next_attempt_at", "since",
    }
)  # fmt: skip

_JSON = json.JSONEncoder(default=str, separators=(",", ":"))

WIDTH = 120
"""Columns of a terminal that a line fits; what is longer goes on in the next one."""

INDENT = "    "

_COLOURS = {"error": "\x1b[31m", "warning": "\x1b[33m"}
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"

_UNITS = ((172_800, 86_400, "days"), (7_200, 3_600, "h"), (120, 60, "min"))
"""From how many seconds on a unit is used, and how many it has."""


def as_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    """One object on one line."""
    return _JSON.encode(event)


class ForTerminal:
    """Renders lines for a person; one that is too long goes on indented.

    Args:
        colours: whether the stream shows them.
    """

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> str:
        """What happened, to whom, and all that there is to say of it."""
        level, what = str(event.pop("level")), str(event.pop("event"))
        lines = [f"{event.pop('timestamp')} {level:<7} {what}"]
        for piece in _pieces(event):
            if len(lines[-1]) + 1 + len(piece) <= WIDTH:
                lines[-1] += f" {piece}"
            else:
                # Only what is longer than a line is cut, and then between its words.
                lines += textwrap.wrap(
                    piece,
                    WIDTH,
                    initial_indent=INDENT,
                    subsequent_indent=INDENT,
                    break_on_hyphens=False,
                )
        if self._colours:
            shown = f"{_COLOURS.get(level, '')}{level:<7}{_PLAIN} {_BOLD}{what}{_PLAIN}"
            lines[0] = lines[0].replace(f"{level:<7} {what}", shown, 1)
        return "\n".join(lines)


def _pieces(event: EventDict) -> Iterator[str]:
    """The grant, then every field that says something."""
    if grant := event.pop("grant", None):
        yield str(grant)
    for name, value in event.items():
        if value is None or value is False or value == []:
            continue
        if isinstance(value, int | float) and name.endswith(("_s", "_ms")):
            stem, _, unit = name.rpartition("_")
            yield f"{stem}={in_words(value / 1000 if unit == 'ms' else value)}"
        elif isinstance(value, list):
            yield from (f"{name}={each}" for each in value)
        else:
            yield f"{name}={value}"


def in_words(seconds: float) -> str:
    """A duration as a person says it: ``350 ms``, ``42 s``, ``12 min``, ``3 h``, ``9 days``."""
    size = abs(seconds)
    for least, length, unit in _UNITS:
        if size >= least:
            return f"{seconds / length:.0f} {unit}"
    if size >= 1 or size == 0:
        return f"{seconds:.3g} s"
    return f"{seconds * 1000:.3g} ms"


def date(instant: object) -> object:
    """INSTANT, in unix seconds, as ``2026-11-26T06:48:55.250Z``; what is none stays as it is."""
    if not isinstance(instant, int | float):
        return instant
    try:
        seconds, millionths = divmod(round(instant * 1_000_000), 1_000_000)
        return f"{_second(seconds)}.{millionths // 1000:03}Z"
    except (ValueError, OverflowError, OSError):  # of a year that no calendar has
        return instant


@lru_cache(maxsize=1_024)
def _second(instant: int) -> str:
    return datetime.fromtimestamp(instant, UTC).replace(tzinfo=None).isoformat()
