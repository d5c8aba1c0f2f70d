"""Times as people write and read them: one function for each direction, and no other place.

Inside, an instant is unix seconds and a duration is seconds, both ``float``. A person writes
``90s``, ``15m``, ``8h``, ``60d`` and ISO 8601 dates, and reads ``12 min`` and
``2030-01-31T12:00:00Z``. No message repeats what it complains about: a secret may stand in the
wrong place.
"""

import math
import re
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds in each unit a duration may be written in."""

LATEST_INSTANT = 1e11
"""Unix seconds: the year 5138; what is later was written in milliseconds, or is no number."""

NO_DURATION = 'is not a duration: write seconds or a text such as "90s", "15m", "8h", "60d"'
NO_INSTANT = "is not an instant: write 2030-01-31T12:00:00Z, 2030-01-31 or unix seconds"

SPOKEN = (("d", 86_400, 172_800), ("h", 3_600, 7_200), ("min", 60, 120))
"""Each unit a duration is told in, its seconds, and from how many seconds on."""


def read_duration(value: Any) -> float:
    """Seconds from a number, or from a text such as ``90s``, ``15m``, ``8h`` or ``60d``.

    Raises:
        ValueError: for anything else.
    """
    seconds: float | None = None
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", value.strip(), re.ASCII)
        seconds = float(match[1]) * UNITS[match[2]] if match else None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = _float(value)
    if seconds is not None and math.isfinite(seconds):
        return seconds
    raise ValueError(NO_DURATION)


def read_instant(value: Any) -> float:
    """Unix seconds from a number, a TOML date-time or an ISO 8601 text, each with its offset.

    A date alone means its beginning in UTC.

    Raises:
        ValueError: for anything else.
    """
    instant: float | None = None
    if isinstance(value, str):
        with suppress(ValueError):
            text = value.strip()
            is_number = re.fullmatch(r"\d+(?:\.\d+)?", text, re.ASCII)
            instant = float(text) if is_number else _timestamp(text)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        instant = _float(value)
    elif isinstance(value, datetime) and value.tzinfo is not None:
        instant = value.timestamp()
    if instant is not None and instant < LATEST_INSTANT:
        return instant
    raise ValueError(NO_INSTANT)


def read_end(text: str, now: float) -> float:
    """When something ends that a person says of: an instant, or a duration from NOW on (``60d``).

    Raises:
        ValueError: for anything else.
    """
    with suppress(ValueError):
        return read_instant(text)
    with suppress(ValueError):
        return now + read_duration(text)
    raise ValueError(f'{NO_INSTANT}, or how long from now: "8h", "60d"')


def duration(seconds: float) -> str:
    """SECONDS as a person reads them, in one unit: ``42 s``, ``7 min``, ``3 h``, ``12 d``."""
    for unit, length, least in SPOKEN:
        if abs(seconds) >= least:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def relative(instant: float, now: float) -> str:
    """Where INSTANT lies as seen from NOW: ``in 12 min``, ``3 h ago``, ``now``."""
    ahead = instant - now
    if abs(ahead) < 0.5:  # noqa: PLR2004  it would read as 0 s
        return "now"
    return f"in {duration(ahead)}" if ahead > 0 else f"{duration(-ahead)} ago"


def written(instant: float) -> str:
    """INSTANT as everything writes it: ``2030-01-31T12:00:00Z``."""
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def dated(instant: float, now: float) -> str:
    """INSTANT as a date and as seen from NOW: ``2030-01-31T12:00:00Z (in 12 min)``."""
    return f"{written(instant)} ({relative(instant, now)})"


def _float(number: float) -> float:
    """NUMBER, which may be a whole one too large for a float."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _timestamp(text: str) -> float:
    with suppress(ValueError):
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("without an offset the instant is not known")
    return instant.timestamp()
