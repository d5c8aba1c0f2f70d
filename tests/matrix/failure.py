"""What the matrix is about: the guarantees, a failure that threatens them, and a verdict."""

from dataclasses import dataclass
from enum import StrEnum

GUARANTEES = {
    "G1": "valid or absent",
    "G2": "one exchange",
    "G3": "no lost rotation",
    "G4": "Redis is a mirror",
    "G5": "no secret leaks",
    "G6": "dead once",
    "G7": "patience",
    "G8": "apart",
}


class Verdict(StrEnum):
    """What became of a row."""

    HELD = "held"
    IN_PART = "in part"
    """What was shown held, and there is a part that nothing here prevents: the row says which."""
    FAILED = "FAILED"
    NOT_SHOWN = "NOT SHOWN"
    """A test was skipped, or had no outcome: nothing is known."""
    BY_DESIGN = "by design"
    """It cannot happen here, and the remark says why; there is nothing to run."""
    OPEN = "OPEN"
    """Nothing shows that it does not happen."""

    @property
    def is_good(self) -> bool:
        return self in {Verdict.HELD, Verdict.IN_PART, Verdict.BY_DESIGN}


@dataclass(frozen=True)
class Failure:
    """A failure seen at other projects.

    Args:
        threatens: the guarantees it would break, such as "G2 G3".
        shown_by: node ids below tests, without their parameters.
        remark: how it is prevented where the tests do not say it by their names; alone, why
            there is nothing to run.
        limit: the part of it that can happen here all the same.
    """

    number: int
    wrong: str
    threatens: str
    shown_by: tuple[str, ...] = ()
    remark: str = ""
    limit: str = ""

    @property
    def guarantees(self) -> list[str]:
        return self.threatens.split()

    @property
    def node_ids(self) -> list[str]:
        """What pytest calls the tests."""
        return [f"tests/{name}" for name in self.shown_by]
