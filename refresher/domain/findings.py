"""What a look at something outside has found, and what mends it."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is."""

    GOOD = "good"
    DOUBT = "doubt"
    """It may be right: a person judges."""
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One step of a look, in plain words and without secrets."""

    subject: str
    """What was looked at, such as ``client crm``."""
    text: str
    level: Level = Level.GOOD
    mend: str | None = None
    """What to do about it; every finding that is not good has one."""
