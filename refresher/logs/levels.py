"""How much a line asks of its reader, and what an event promises of its lines."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a line asks of its reader."""

    DEBUG = "debug"
    """Routine."""
    INFO = "info"
    """Something changed as it should."""
    WARNING = "warning"
    """It mends itself; watch it."""
    ERROR = "error"
    """A person must act."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a catalogue entry promises."""

    level: Level
    meaning: str
