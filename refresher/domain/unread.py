"""Answers that nobody understood, as they came: what may be in them is not thrown away."""

from dataclasses import dataclass, field

from refresher.domain.grants import Intent


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    """An answer that was not understood, as it came."""

    status: int
    """0 where not even the status line could be read."""
    body: bytes = field(repr=False)
    sent_at: float
    """When its request left: a lifetime in it counts from here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """A raw answer in the vault, with the exchange it came from."""

    id: int
    name: str
    uid: str
    authorization_serial: int
    intent: Intent
    answer: RawAnswer
