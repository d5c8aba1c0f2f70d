"""What the server saw: one record for each token request, and what the records prove.

Holds family ids and generations, never a token.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from math import inf


@dataclass(slots=True, kw_only=True, eq=False)
class ExchangeRecord:
    """One token request, from its complete arrival; instants in unix seconds.

    Args:
        generation: of the refresh token presented.
        generation_issued: of the tokens in the true answer, delivered or not.
        processed_at: when tokens were issued or refused; None if a fault came before.
        answered_at: when the answer left (also half of one); None if none ever did.
        gone_at: when the connection ended without an answer, by either side.
        client_gone: it was the client that went away.
        status: of the answer that left or was meant to; None where the fault was a drop.
        error: the OAuth error of the true answer, seen by the client or not.
        fault: kind of the fault that was injected.
    """

    sequence: int
    family_id: str | None
    subject: str | None
    client_id: str | None
    grant_type: str | None
    generation: int | None
    arrived_at: float
    peer: tuple[str, int] | None
    user_agent: str | None
    fault: str | None
    generation_issued: int | None = None
    processed_at: float | None = None
    answered_at: float | None = None
    gone_at: float | None = None
    client_gone: bool = False
    status: int | None = None
    error: str | None = None

    @property
    def ended_at(self) -> float:
        """When the client stopped having this request in flight; infinite if it still has."""
        if self.answered_at is not None:
            return self.answered_at
        return inf if self.gone_at is None else self.gone_at


def overlaps(records: Iterable[ExchangeRecord]) -> list[tuple[ExchangeRecord, ExchangeRecord]]:
    """Pairs of exchanges of one family that were in flight at the same time.

    In flight is [arrived_at, answered_at or gone_at]: what the client could know, not how
    long the server went on working for a client that had left.
    """
    families: dict[str, list[ExchangeRecord]] = defaultdict(list)
    for record in records:
        if record.family_id is not None:
            families[record.family_id].append(record)
    return list(chain.from_iterable(map(_overlaps_of_one, families.values())))


def _overlaps_of_one(
    records: list[ExchangeRecord],
) -> list[tuple[ExchangeRecord, ExchangeRecord]]:
    found: list[tuple[ExchangeRecord, ExchangeRecord]] = []
    in_flight: list[ExchangeRecord] = []
    for record in sorted(records, key=lambda record: record.arrived_at):
        in_flight = [other for other in in_flight if other.ended_at > record.arrived_at]
        found.extend((other, record) for other in in_flight)
        in_flight.append(record)
    return found
