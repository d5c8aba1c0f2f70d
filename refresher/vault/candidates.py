"""Which due grants of a client go first: the statements that find them, built once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.domain.claiming import Candidate, Room, in_order
from refresher.domain.grants import Fault
from refresher.domain.shares import WHOLE, Share
from refresher.vault.aside import Aside
from refresher.vault.prepared import Prepared
from refresher.vault.rows import Transaction
from refresher.vault.schema import (
    FAILS_BY_ITSELF,
    IS_DOUBTED,
    IS_OPEN,
    grants,
)

AHEAD = 1_000
"""Grants that are read in their order at once where more are due."""

MANY = 10_000
"""Due grants that are sorted at the most; more are found in the order of an index.

Such a walk passes what is not due and ends sooner. There is little of it: what ends sooner is
mostly due sooner, and the rest has its turn within its life.
"""

AHEAD_FOR = 1.0
"""Seconds for which that counts: how late something that is more urgent may come to its turn."""


@dataclass(slots=True)
class _Read:
    numbers: dict[int, None]
    at: float


class Ahead:
    """Due grants of each client, read before their turn comes where very many are due.

    Read once for a thousand claims, and not at each. Lists are shared by nobody; a claim finds
    out what no longer holds.
    """

    def __init__(self) -> None:
        self._lists: dict[tuple[str, int], _Read] = {}
        self._disturbances = 0

    def heed(self, disturbances: int, *, is_doubted: bool) -> None:
        """Forget what was read before anything but claims and commits was handed over.

        Args:
            is_doubted: some claims were refused, and what they dropped is due again.
        """
        if is_doubted or disturbances != self._disturbances:
            self.forget()
            self._disturbances = disturbances

    def first(
        self, which: tuple[str, int], count: int, now: float, read: Callable[[int], list[int]]
    ) -> list[int]:
        """The first COUNT that are due of a client and rank; READ finds as many as it is told."""
        known = self._lists.get(which)
        if known is None or len(known.numbers) < count or not 0 <= now - known.at < AHEAD_FOR:
            numbers = read(max(AHEAD, count))
            if len(numbers) < AHEAD:
                self._lists.pop(which, None)
                return numbers[:count]
            known = self._lists[which] = _Read(dict.fromkeys(numbers), now)
        return list(islice(known.numbers, count))

    def drop(self, numbers: Iterable[int]) -> None:
        """NUMBERS are claimed."""
        for known in self._lists.values():
            for number in numbers:
                known.numbers.pop(number, None)

    def forget(self) -> None:
        """Whatever was read may no longer hold."""
        self._lists.clear()


# A turn of the scheduler asks all of this for every client. The statements are built once:
# building one costs several times what SQLite needs to answer it.

_OF_ONE_CLIENT = (grants.c.client == sa.bindparam("client"), grants.c.lease_holder.is_(None))
_REPLAYED_SINCE = grants.c.intent_first_sent_at > sa.bindparam("since")


_NOW = sa.bindparam("now", type_=sa.Float)
_LIMIT = sa.bindparam("limit", type_=sa.Integer)
_IS_SCHEDULED = grants.c.due_at.is_not(None)
# A sum keeps SQLite from looking through all that is due.
_IS_DUE_TOO = grants.c.due_at + 0 <= _NOW


class _Due:
    """The due grants of one client under CONDITIONS.

    Args:
        order: what they are sorted by.
        by_time_left: very many need not be sorted, for an index has them in this order.
        is_rare: few meet CONDITIONS, whatever is due: they are found by them.
    """

    def __init__(
        self,
        *conditions: sa.ColumnElement[bool] | sa.TextClause,
        order: Sequence[sa.ColumnElement[Any]],
        by_time_left: bool = False,
        is_rare: bool = False,
    ) -> None:
        due = _IS_DUE_TOO if is_rare else grants.c.due_at <= _NOW
        found = sa.select(grants.c.id).where(*_OF_ONE_CLIENT, *conditions)
        in_order = found.where(due).order_by(*order).limit(_LIMIT)
        self._sorted = Prepared(in_order)
        self._named = Prepared(in_order.where(grants.c.name == sa.bindparam("only")))
        self._walked: Prepared | None = None
        if by_time_left:
            beyond = found.where(due).order_by(grants.c.due_at).limit(1).offset(_LIMIT)
            self._beyond = Prepared(beyond)
            walked = found.with_hint(grants, "INDEXED BY ix_grants_time_left", "sqlite")
            walked = walked.where(_IS_SCHEDULED, _IS_DUE_TOO).order_by(order[0]).limit(_LIMIT)
            self._walked = Prepared(walked)

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> list[Any]:
        """The first of them, in their order; VALUES may name the only one that is wanted."""
        if values["only"] is not None:
            return self._named.rows(connection, values)
        if self._walked is not None and self._beyond.rows(connection, {**values, "limit": MANY}):
            return self._walked.rows(connection, values)
        return self._sorted.rows(connection, values)


def _first(*conditions: sa.ColumnElement[bool] | sa.TextClause) -> Prepared:
    """When the first grants of one client under CONDITIONS are due, and which they are."""
    found = sa.select(grants.c.id, grants.c.due_at)
    found = found.where(*_OF_ONE_CLIENT, _IS_SCHEDULED, *conditions)
    return Prepared(found.order_by(grants.c.due_at).limit(_LIMIT))


_IS_BELIEVED = grants.c.refused_at.is_(None)
_BY_TIME = (grants.c.expires_at.nulls_first(), grants.c.due_at)
_ORDERS = {False: _BY_TIME, True: (grants.c.served_at.desc().nulls_last(), *_BY_TIME)}
"""By time left; where one exchange is to tell for many, by who was served last."""

_REPLAYS = _Due(IS_OPEN, _REPLAYED_SINCE, order=[grants.c.intent_first_sent_at], is_rare=True)
_HEALTHY = {
    is_probe: _Due(
        _IS_BELIEVED,
        sa.or_(grants.c.fault.is_(None), grants.c.fault != Fault.GRANT.value),
        order=order,
        by_time_left=not is_probe,
    )
    for is_probe, order in _ORDERS.items()
}
_FAILING = {
    is_probe: _Due(_IS_BELIEVED, FAILS_BY_ITSELF, order=order, by_time_left=not is_probe)
    for is_probe, order in _ORDERS.items()
}
_DOUBTED = _Due(IS_DOUBTED, grants.c.refused_at > 0, order=[grants.c.due_at + 0], is_rare=True)

_FIRST, _FIRST_REPLAY = _first(), _first(IS_OPEN, _REPLAYED_SINCE)


def of_room(
    tx: Transaction, room: Room, only: str | None, ahead: Ahead | None, share: Share = WHOLE
) -> list[Candidate]:
    """The due grants of ROOM in their order, no more than it has places.

    First replays whose window closes, the soonest first; then by time left; then grants that
    fail by themselves, then doubted ones, each within its own few places.
    """
    first = _first_due(tx.connection, room, tx.aside)
    if first is None or first > tx.now:
        return []
    ask = partial(_ranked, tx, room, only=only)
    ahead, share = (None, WHOLE) if room.is_probe else (ahead, share)
    limit = room.places + len(room.last)
    found: list[Candidate] = []
    if room.replays_since is not None:
        found += ask(0, limit, _REPLAYS, since=room.replays_since)
    if not room.only_replays:
        found += ask(1, limit, _HEALTHY[room.is_probe], ahead=ahead, share=share)
        found += ask(2, room.failing, _FAILING[room.is_probe], ahead=ahead, share=share)
        found += ask(3, room.doubted, _DOUBTED)
    return in_order(found, room.places)


def _ranked(
    tx: Transaction,
    room: Room,
    rank: int,
    limit: int,
    due: _Due,
    *,
    only: str | None,
    ahead: Ahead | None = None,
    share: Share = WHOLE,
    **parameters: object,
) -> list[Candidate]:
    """Up to LIMIT due grants that DUE finds."""
    if limit <= 0:
        return []
    aside = tx.aside.not_to_claim

    def read(count: int) -> list[int]:
        values = {"client": room.client, "now": tx.now, "only": only}
        values["limit"] = count * share.replicas  # so that as many are its own
        found = due.rows(tx.connection, values | parameters)
        return share.own_first([number for (number,) in found])

    if ahead is None or only is not None:
        found = read(limit + len(aside))
    else:
        found = ahead.first((room.client, rank), limit + len(aside), tx.now, read)
    numbers = [number for number in found if number not in aside][:limit]
    return [
        Candidate(number, room.gate, (number in room.last, rank, place))
        for place, number in enumerate(numbers)
    ]


def next_due(connection: Connection, rooms: Sequence[Room], *, aside: Aside) -> float | None:
    """When the first unleased grant is due that one of ROOMS would let begin."""
    firsts = [_first_due(connection, room, aside) for room in rooms]
    return min((first for first in firsts if first is not None), default=None)


def _first_due(connection: Connection, room: Room, aside: Aside) -> float | None:
    """When the first unleased grant is due that ROOM would let begin."""
    left_alone = aside.not_to_claim
    first = _FIRST_REPLAY if room.only_replays else _FIRST
    found = first.rows(
        connection,
        {"client": room.client, "since": room.replays_since, "limit": 1 + len(left_alone)},
    )
    return next((due_at for number, due_at in found if number not in left_alone), None)
