"""What one replica knows that concerns all of them, passed on with its heartbeat.

That something was made due: the others look for it, who may have the place for it. And what a
server said: for how long it wants quiet, or that it refuses the client. That it was not reached,
or failed, is not passed on: the fault may lie on that replica's own way there.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256

from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.secret import Secret
from refresher.vault.heartbeats import Replica

AFTER_OTHERS = 2.5
"""Seconds for which whoever was told asks later than who told it: by then the answer to the
first question is known to all, and is not asked for again by each."""

WORTH_TELLING = 2 * AFTER_OTHERS
"""Seconds of quiet that the others are told of. What is shorter is over when they know it; each
finds out the pace of its own part."""

MOST_TOLD = 200
"""Gates of which one replica tells at once: those that end last."""


@dataclass(frozen=True, slots=True)
class Word:
    """What one gate's server has said."""

    gate: str
    until: float
    """The instant, of the vault's clock, before which nothing is to be sent."""
    error: str | None = None
    """What it has against the client; None where it only wants quiet."""
    mark: str = ""
    """By what a client is recognized that proves itself with the same."""

    @property
    def heard_until(self) -> float:
        """Before which instant those send nothing that were told by another replica."""
        return self.until + AFTER_OTHERS


class Words:
    """What this replica was told, for the others.

    Args:
        fingerprint: by what all replicas recognize a secret, and nobody else learns it.
    """

    def __init__(
        self,
        clock: Clock,
        fingerprint: Callable[[Secret], bytes] = lambda secret: sha256(
            secret.reveal().encode()
        ).digest(),
    ) -> None:
        self._clock, self._fingerprint = clock, fingerprint
        self._own: dict[str, Word] = {}
        self.made_due = 0
        """How often something was made due here that others may do as well."""
        self.news = asyncio.Event()
        """Set when there is something that the others do not know of yet."""

    def say(self, gate: str, client: Client, wait: float, error: str | None = None) -> None:
        """The server of GATE wants to be left alone for WAIT seconds."""
        if wait < WORTH_TELLING:
            return
        now, known = self._clock.now(), self._own.get(gate)
        if known is None or known.until <= now:
            self.news.set()
        elif known.error == error:  # an answer that left earlier may ask for less
            wait = max(wait, known.until - now)
        self._own[gate] = Word(gate, now + wait, error, self.mark(client))

    def unsay(self, gate: str) -> None:
        """The server of GATE answers again, or is asked in another way."""
        if self._own.pop(gate, None) is not None:
            self.news.set()

    def has_said(self, gate: str) -> bool:
        """Whether the server of GATE wants quiet, by what it told this replica itself."""
        known = self._own.get(gate)
        return known is not None and known.until > self._clock.now()

    def mark(self, client: Client) -> str:
        """By what CLIENT is recognized."""
        known = client.authentication.password or client.authentication.private_key
        return "" if known is None else self._fingerprint(known).hex()

    def told(self) -> str | None:
        """All that counts now, for a heartbeat that tells it.

        Until the others ask by themselves: what they hear of no longer before that is over.
        """
        self.news.clear()
        now = self._clock.now()
        self._own = {gate: word for gate, word in self._own.items() if word.heard_until > now}
        last = sorted(self._own.values(), key=lambda word: word.until)[-MOST_TOLD:]
        if not last and not self.made_due:
            return None
        return json.dumps({"made_due": self.made_due, "words": [asdict(word) for word in last]})


@dataclass(frozen=True, slots=True)
class News:
    """What changed in the words of others."""

    said: Sequence[Word] = ()
    ended: Sequence[Word] = ()
    """What was over before its end."""
    is_due: bool = False
    """Something was made due."""


class Heard:
    """What the other replicas have said."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._made_due: dict[str, int] = {}
        self._words: dict[str, tuple[str, Word]] = {}
        """By gate: who has said it, and what."""

    def news(self, others: Iterable[Replica], now: float) -> News:
        """What is new among the words of OTHERS."""
        living = {one.holder: one.words for one in others if not one.life.is_silent(now)}
        texts = {holder: text for holder, text in living.items() if text is not None}
        if texts == self._texts:
            return News()
        before, made_due = self._words, self._made_due
        self._texts, self._words, self._made_due = texts, {}, {}
        for holder, text in texts.items():
            told = json.loads(text)
            self._made_due[holder] = told["made_due"]
            # What another version says beside this is not understood here.
            for each in told["words"]:
                word = Word(each["gate"], each["until"], each["error"], each["mark"])
                known = self._words.get(word.gate)
                if known is None or known[1].until < word.until:
                    self._words[word.gate] = holder, word
        return News(
            [said[1] for gate, said in self._words.items() if before.get(gate) != said],
            [
                word
                for gate, (holder, word) in before.items()
                if gate not in self._words and holder in living and word.heard_until > now
            ],
            is_due=self._made_due != made_due,
        )
