"""Whose exchange may begin: which due grants go first, and what a claim writes. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

from refresher.domain.grants import Grant, Intent


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many exchanges one client may begin now, and which of its due grants go first."""

    client: str
    gate: str
    """Clients of one endpoint and client id share a gate, and its one place of its own."""
    places: int
    failing: int
    """How many of them may go to grants whose last failure was their own."""
    doubted: int
    """How many of them may go to grants whose refresh token is refused."""
    replays_since: float | None = None
    """Wall time: a replay first sent after it still fits its grace window, and goes first."""
    only_replays: bool = False
    """The endpoint is closed: nothing but such a replay may be sent."""
    last: frozenset[int] = frozenset()
    """Grants that go last: the one that closed the endpoint is not its probe."""
    is_probe: bool = False
    """Endpoint or client is in doubt: the grant that was served last tells the most, and is
    asked first. Those that were never served may all fail by themselves."""
    has_reserve: bool = False
    """Whether the gate's own place, which no other gate can take, is free."""
    response_timeout: float = 0.0
    """Seconds its server may take: how long its exchanges are leased (``leases.length``)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A due grant and its place in the order of claims."""

    id: int
    gate: str
    order: tuple[float, ...]


def in_order(found: Sequence[Candidate], places: int) -> list[Candidate]:
    """The first PLACES of FOUND, each grant once, in the best of its places."""
    ordered = sorted(found, key=lambda candidate: candidate.order)
    unique = {candidate.id: candidate for candidate in reversed(ordered)}
    return sorted(unique.values(), key=lambda candidate: candidate.order)[:places]


def shared_out(candidates: Sequence[Candidate], reserves: set[str], shared: int) -> list[Candidate]:
    """Who of CANDIDATES gets a place: each gate its own first, then round by gate.

    A gate whose server is slow can fill its own places and its share, and never another's.
    """
    queues: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        queues.setdefault(candidate.gate, []).append(candidate)
    chosen = [queues[gate].pop(0) for gate in sorted(reserves & queues.keys())]
    rounds = zip_longest(*queues.values())
    in_turn = [each for each in chain.from_iterable(rounds) if each is not None]
    return chosen + in_turn[: max(shared, 0)]


def armed(grant: Grant, now: float) -> Grant:
    """GRANT with the intent of its next exchange.

    Attempts whose outcome nobody knows are counted on while they presented the same refresh
    token: another one has never been sent.
    """
    presented, opened = grant.refresh_token_fingerprint, grant.intent
    assert presented is not None
    if opened is not None and opened.presented != presented:
        opened = None
    intent = Intent(
        sequence=grant.attempt_sequence + 1,
        presented=presented,
        first_sent_at=now if opened is None else opened.first_sent_at,
        attempts=1 if opened is None else opened.attempts + 1,
    )
    return replace(grant, attempt_sequence=intent.sequence, intent=intent)


def is_untouched_since(grant: Grant, instant: float) -> bool:
    """Whether neither an answer nor a person has given GRANT anything after INSTANT."""
    known = (grant.issued_at, grant.refresh_token_obtained_at)
    return all(at is None or at <= instant for at in known)
