"""Kinds of value that a person types behind an option: durations and ends."""

from collections.abc import Callable
from typing import Any

import click

from refresher.clock import SystemClock
from refresher.times import read_duration, read_end


class _Read(click.ParamType[float]):
    """What READ makes of the text; a ``ValueError`` of it is a mistake in typing."""

    def __init__(self, name: str, read: Callable[[str], float]) -> None:
        self.name, self._read = name, read

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read VALUE, or fail as click does."""
        if isinstance(value, float):
            return value
        try:
            return self._read(str(value))
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


DURATION = _Read("duration", read_duration)
"""Seconds, written ``90``, ``90s``, ``15m``, ``8h`` or ``60d``."""

END = _Read("end", lambda text: read_end(text, SystemClock().now()))
"""Unix seconds, written so, as an ISO 8601 date, or as how long from now: ``60d``."""
