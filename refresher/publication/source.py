"""The vault as far as publication reads it."""

from collections.abc import Sequence
from typing import Protocol

from refresher.domain.grants import Publication
from refresher.domain.readable import Page, Shown, Versions


class Source(Protocol):
    """Hands out what is to be published, each grant in one consistent piece.

    Raises:
        VaultError: from both methods, when the vault cannot be read now.
    """

    async def read(self, names: Sequence[str]) -> list[Publication]:
        """What is to be published of NAMES; those unknown or set aside are left out."""

    def may_be_set_aside(self, name: str) -> bool:
        """Whether NAME may be a grant that cannot be read now: its keys stay as they are."""

    def seen_newer(self, name: str, now: float) -> None:
        """Redis shows a token of NAME that came after all that the vault knows of it."""

    async def walk(self, after: int, limit: int) -> list[Publication]:
        """Up to LIMIT publications with ids above AFTER, in id order, removed ones too."""

    async def versions(self, after: Shown, limit: int) -> Versions:
        """Which versions up to LIMIT readable tokens from behind AFTER on have."""

    @property
    def readable(self) -> "Readable":
        """Hands out the tokens that can be read, soonest end first."""


class Readable(Protocol):
    """A look at the tokens that can be read, and at nothing else of their grants."""

    async def __call__(self, after: Shown, limit: int) -> Page:
        """Up to LIMIT of them from behind AFTER on; what is odd about any is left out.

        Raises:
            VaultError: the vault cannot be read now.
        """
