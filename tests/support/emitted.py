"""Which events of the catalogue the tests had emitted, over all processes of a run.

``Event`` names are noted as empty files of one folder: by ``emit`` in the processes of pytest
and in what they fork, and by whoever reads the log of another process. What a test emits itself
does not count.
"""

import os
import sys
from pathlib import Path

from refresher import logs
from refresher.logs import EVENTS, Entry, Event

FOLDER = "TESTS_EMITTED"
"""The variable with the folder; without it nothing is noted."""


class Noting(dict[Event, Entry]):
    """The catalogue, for an ``emit`` that notes what it is asked for."""

    def __getitem__(self, event: Event) -> Entry:
        who = sys._getframe(2).f_globals["__name__"]  # behind ``emit``
        if who.startswith("refresher."):
            note(event)
        return super().__getitem__(event)


_noted: set[str] = set()


def note(event: str) -> None:
    """EVENT was emitted."""
    if event not in _noted and (folder := os.environ.get(FOLDER)):
        (Path(folder) / event).touch()
        _noted.add(event)


def missing(folder: Path) -> set[str]:
    """The events that are not noted in FOLDER."""
    return {event.value for event in Event} - {path.name for path in folder.iterdir()}


logs.EVENTS = Noting(EVENTS)
