"""What a server says wrongly for a while: to everybody, or to some accounts only.

Nothing is spent by any of these words, and none of them is true of the refresh token they
are said of. What may follow from each is written beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from refresher.domain.outcomes import ClientRejected, GrantRejected, Outcome, Transient
from tests.simulation.chance import Chance

Word = Literal["client refused", "tenant refused", "wordless", "incident"]

WORDS: dict[Word, Outcome] = {
    "client refused": ClientRejected(error="invalid_client", status=401),
    "tenant refused": ClientRejected(error="unauthorized_client", status=400),
    "wordless": Transient(reason="http_400", status=400, is_own_word=False),
    "incident": GrantRejected(error="invalid_grant", status=400),
}
"""Said to every grant of a client: the client refused, an incident. Only to some accounts:
a tenant refused, a refusal without words."""

TO_EVERYBODY: tuple[Word, ...] = ("client refused", "incident")
TO_SOME: tuple[Word, ...] = ("tenant refused", "wordless")

LASTS = {"client refused": 60.0, "tenant refused": 400.0, "wordless": 200.0, "incident": 150.0}
"""Seconds, on average. An incident is over before half an hour of doubt is."""

LONGEST_INCIDENT = 600.0


@dataclass
class Moods:
    """Which words are said at present, and to whom."""

    chance: Chance
    at: Callable[[float, Callable[[], None]], None]
    to_clients: dict[str, Word] = field(default_factory=dict)
    to_grants: dict[str, Word] = field(default_factory=dict)
    lied_to: set[str] = field(default_factory=set)
    """Grants whose last refusal was not true."""

    def begin(self, client: str, grants: list[str], *, is_quiet: bool) -> None:
        """Let CLIENT, or up to half of its GRANTS, hear a wrong word for a while.

        Args:
            is_quiet: never what would rightly keep the whole client waiting.
        """
        if client in self.to_clients:
            return
        if self.chance.is_heads():
            word = self.chance.choice(TO_EVERYBODY[is_quiet:])
            self.to_clients[client] = word
            self._until(word, lambda: self._forget(client))
            return
        word = self.chance.choice(TO_SOME)
        for name in grants[: len(grants) // 2]:
            self.to_grants[name] = word
        self._until(word, lambda: self._forget(*grants))

    def _until(self, word: Word, over: Callable[[], None]) -> None:
        lasts = self.chance.around(LASTS[word])
        self.chance.seen[f"mood: {word}"] += 1
        self.at(min(lasts, LONGEST_INCIDENT) if word == "incident" else lasts, over)

    def _forget(self, *names: str) -> None:
        for name in names:
            self.to_clients.pop(name, None)
            self.to_grants.pop(name, None)

    def word_to(self, name: str, client: str) -> Word | None:
        """What the grant NAME of CLIENT is told now instead of being served."""
        if self.chance.is_calm:
            return None
        return self.to_clients.get(client) or self.to_grants.get(name)
