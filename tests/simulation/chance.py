"""Seeded chance: what goes wrong, how often, and the count of what did."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Violated(AssertionError):
    """Raised when a guarantee does not hold."""


class Chance:
    """The only source of randomness of a world; the same seed draws the same."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  a replayable world
        self.seen: Counter[str] = Counter()
        self.is_calm = False
        """Whether the faults have ended: the world settles."""

    def strikes(self, what: str, probability: float) -> bool:
        """Whether WHAT happens now; counted when it does."""
        if self.is_calm or self._random.random() >= probability:
            return False
        self.seen[what] += 1
        return True

    def one_in(self, number: float) -> bool:
        """Whether something happens that is expected every NUMBER times."""
        return not self.is_calm and self._random.random() * number < 1.0

    def is_heads(self) -> bool:
        """One of two."""
        return self._random.random() < 0.5

    def draw(self) -> float:
        """A number drawn evenly from [0, 1)."""
        return self._random.random()

    def between(self, least: float, most: float) -> float:
        """A duration drawn evenly."""
        return self._random.uniform(least, most)

    def around(self, mean: float) -> float:
        """A duration with a long tail."""
        return self._random.expovariate(1 / mean)

    def choice(self, options: Sequence[T]) -> T:
        """One of OPTIONS."""
        return self._random.choice(options)
