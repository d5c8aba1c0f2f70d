"""Counting all grants, without keeping anything waiting that is sent or committed.

Each figure comes from an index and none builds a grant. A million of them take part of a
second all the same, so they are counted on a connection and in a thread of their own. Whoever
asks again soon, or while they are being counted, gets the last ones.
"""

import asyncio
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.clock import Clock
from refresher.domain.figures import REFRESH_TOKEN_WINDOWS, TOKEN_WINDOWS, Due, Ends, Figures
from refresher.domain.grants import GrantState
from refresher.errors import VaultUnavailable
from refresher.vault.schema import IS_WORKED_ON, NOT_FRESH, grants, incidents
from refresher.vault.threads import out_of_the_loop
from refresher.vault.vault import Vault

RESTS = 3.0
"""Seconds from one count to the next at the least."""

RESTS_FOR = 20
"""How many times as long as a count took the next one waits."""

WAITS = 0.02
"""Seconds to wait for a count before the last one is given instead."""

FIRST_WAITS = 2.0
"""Seconds to wait for the first one of a process."""

KNOWN_STATES = frozenset(state.value for state in GrantState)


@dataclass(frozen=True, slots=True)
class Counted:
    """Figures, and when they were read."""

    figures: Figures
    at: float
    """Monotonic."""


class Counting:
    """Counts what VAULT holds, which is open elsewhere."""

    def __init__(self, vault: Vault, clock: Clock) -> None:
        self._files, self._clock = vault.files, clock
        self._reader, self._size = vault.open_another(), vault.size
        self._last: Counted | None = None
        self._under_way: asyncio.Task[None] | None = None
        self._again_at = -math.inf

    async def latest(self) -> Counted | None:
        """What was counted last: just now in a small vault, earlier in a large one.

        None until the first count has ended. A vault that cannot be read leaves the last one.
        """
        if self._under_way is None and self._clock.monotonic() >= self._again_at:
            self._under_way = asyncio.ensure_future(self._count())
        if (count := self._under_way) is not None:
            patience = FIRST_WAITS if self._last is None else WAITS
            await asyncio.wait([count], timeout=patience)
            if count.done():
                count.result()  # raises what a bug did, to whoever asked
        return self._last

    def close(self) -> None:
        """Count no more."""
        if self._under_way is not None:
            self._under_way.cancel()
        self._reader.dispose()

    async def _count(self) -> None:
        began, now = self._clock.monotonic(), self._clock.now()
        try:
            with suppress(VaultUnavailable):  # whoever writes to it announces that
                self._files.require_vault()
                figures = await out_of_the_loop(lambda: self._read(now))
                self._last = Counted(figures, began)
        finally:
            ended = self._clock.monotonic()
            self._again_at = began + max(RESTS, RESTS_FOR * (ended - began))
            self._under_way = None

    def _read(self, now: float) -> Figures:
        try:
            with self._reader.connect() as connection, connection.begin():
                return read_figures(connection, now, self._size(connection))
        except (sa.exc.DBAPIError, OSError) as error:
            raise VaultUnavailable("the vault cannot be counted") from error


def read_figures(connection: Connection, now: float, size: int) -> Figures:
    """What the vault holds at NOW, a unix time."""
    waiting = sa.and_(grants.c.due_at <= now, grants.c.lease_holder.is_(None))
    # An expression: SQLite would walk an index of all clients to group by the column.
    client = grants.c.client + ""
    due = (
        sa.select(client, sa.func.count(), sa.func.min(grants.c.due_at))
        .where(waiting)
        .group_by(client)
    )
    needs_nobody = grants.c.state.in_([GrantState.FRESH, GrantState.DEGRADED, GrantState.PAUSED])
    opened = sa.select(incidents.c.client, incidents.c.count)
    return Figures(
        grants=_by_client_and_state(connection),
        access_tokens=_ends(connection, grants.c.expires_at, IS_WORKED_ON, now, TOKEN_WINDOWS),
        refresh_tokens=_ends(
            connection,
            grants.c.refresh_token_expires_at,
            needs_nobody,
            now,
            REFRESH_TOKEN_WINDOWS,
        ),
        due={row[0]: Due(row[1], row[2]) for row in connection.execute(due)},
        incidents=_pairs(connection, opened),
        size=size,
    )


def _by_client_and_state(connection: Connection) -> dict[tuple[str | None, str], int]:
    """Only what is not fresh is counted one by one; the rest of a client is fresh."""
    client, state = grants.c.client, grants.c.state
    everything = sa.select(client, sa.func.count()).group_by(client)
    # By state first: SQLite would walk the clients of all that is fresh otherwise.
    others = sa.select(client, state, sa.func.count()).where(NOT_FRESH).group_by(state, client)
    fresh = _pairs(connection, everything)
    counts: dict[tuple[str | None, str], int] = {}
    for name, word, count in connection.execute(others):
        fresh[name] -= count
        if word != GrantState.REMOVED:
            key = name, word if word in KNOWN_STATES else "damaged"
            counts[key] = counts.get(key, 0) + count
    return counts | {(name, GrantState.FRESH.value): n for name, n in fresh.items() if n}


def _pairs(connection: Connection, counted: sa.Select[Any]) -> dict[Any, int]:
    return {row[0]: row[1] for row in connection.execute(counted)}


def _ends(
    connection: Connection,
    ends_at: sa.ColumnElement[Any],
    condition: sa.ColumnElement[bool] | sa.TextClause,
    now: float,
    windows: Mapping[str, float],
) -> Ends:
    counted = [
        sa.func.coalesce(sa.func.sum(sa.case((ends_at <= now + seconds, 1), else_=0)), 0)
        for seconds in windows.values()
    ]
    ahead = sa.and_(condition, ends_at > now)
    soonest = sa.select(ends_at).where(ahead).order_by(ends_at).limit(1)
    within = sa.and_(ahead, ends_at <= now + max(windows.values()))
    row = connection.execute(sa.select(*counted).where(within)).one()
    return Ends(connection.scalar(soonest), dict(zip(windows, row, strict=True)))
