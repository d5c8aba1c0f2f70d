"""The demo's consumer: it reads every token several times a second and uses it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import anyio

from refresher.client import Token, TokenReader
from refresher.clock import Clock
from refresher.sandbox.exchange_log import ExchangeRecord
from refresher.sandbox.visitor import Visitor

READ_EVERY = 0.25
"""Seconds between two reads of one token."""


@dataclass(slots=True)
class Consumer:
    """Reads as a consumer in any language would, and counts what it meets."""

    reader: TokenReader
    visitor: Visitor
    clock: Clock
    reads: int = 0
    missed: int = 0
    """Reads that found no valid token."""
    rejected: int = 0
    """Tokens from Redis that the resource refused."""
    tokens: dict[str, Token] = field(default_factory=dict)
    """The last token read of each grant."""
    arrivals: dict[str, list[float]] = field(default_factory=dict)
    """When each new version of each grant was first seen by a subscriber."""

    async def read_for_ever(self, name: str) -> None:
        """Read the token of NAME and use it, again and again."""
        while True:
            token = await self.reader.get(name)
            self.reads += 1
            if token is None:
                self.missed += 1
            else:
                self.tokens[name] = token
                if not await self.visitor.is_accepted(token.authorization):
                    self.rejected += 1
            await anyio.sleep(READ_EVERY)

    async def watch(self, name: str) -> None:
        """Note when each version of NAME arrives, as a subscriber sees it."""
        async for token in self.reader.watch(name):
            if token is not None:
                self.arrivals.setdefault(name, []).append(self.clock.now())


def publish_latencies(
    arrivals: dict[str, list[float]], families: dict[str, str], log: Iterable[ExchangeRecord]
) -> list[float]:
    """Seconds from the server's answer to the token's arrival at a subscriber.

    That is the whole way: answer received, durable in the vault, published, received.
    """
    answers: dict[str, list[float]] = {}
    for record in log:
        delivered = record.status == 200 and record.answered_at is not None  # noqa: PLR2004  OK
        if delivered and record.family_id is not None and record.answered_at is not None:
            answers.setdefault(record.family_id, []).append(record.answered_at)
    found = []
    for name, instants in arrivals.items():
        for arrived_at in instants:
            before = [at for at in answers.get(families[name], ()) if at <= arrived_at]
            if before:
                found.append(arrived_at - max(before))
    return found


def percentile(values: list[float], share: float) -> float | None:
    """The value below which SHARE of VALUES lie; None without any."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None
