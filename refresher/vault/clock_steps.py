"""What a wall clock that was set back does to the instants the vault holds.

Everything written before the step is moved by it, and nothing that was written after: the
first write of the new time moves all the others in its own transaction, before anything
else (``Transactions``). A step while no process looked is measured against the mark, a fact
of the vault: what the wall clock showed so many seconds after which boot of the machine.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.clock import JUMP, Clock, SinceBoot
from refresher.domain import schedule
from refresher.domain.fields import Trait, fields_with
from refresher.domain.grants import GrantKind, GrantState
from refresher.vault.database import others_write
from refresher.vault.hastening import hasten_each
from refresher.vault.reading import update_all
from refresher.vault.rows import Run, Transaction
from refresher.vault.schema import (
    IS_DOUBTED,
    IS_OPEN,
    facts,
    grants,
    incidents,
    logins,
    notifications,
    revocations,
)

RESTORED_FROM = "restored_from"
"""Fact: of which instant the copy was that this vault is (``backup``)."""

MARK = "clock_mark"
"""Fact: what the wall clock showed when this vault was last open."""

_MOVED = "clock_moved"
"""Fact: seconds that all instants were moved by since the vault was made, negative."""

TOLERANCE = 5.0
"""Seconds an issue may lie in the future without consequence."""

SPREAD, EACH = 60.0, 0.1
"""Seconds over which grants are made due whose instants cannot be believed: at the most,
and for each of them where there are few."""

NAMED = 1_000
"""Grants that are named at once when a step is followed."""

_INSTANTS = (
    *(grants.c[name] for name in fields_with(Trait.INSTANT)),
    grants.c.rejection_until,
    grants.c.intent_first_sent_at,
    grants.c.lease_taken_at,
    grants.c.lease_ends_at,
)

_OF_A_TOKEN = (grants.c.issued_at, grants.c.expires_at)

_MOVES = sa.and_(
    grants.c.kind != GrantKind.STATIC.value, grants.c.state != GrantState.REMOVED.value
)


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the wall clock while no process had the vault open.

    A process marks every few seconds what its clock shows, and what it writes is dated by that
    clock. So a vault whose mark is not ahead of the clock holds nothing of the future.
    """

    offset: float
    """Seconds, negative for a step back; 0 where there was none, or nobody knows of one."""
    is_measured: bool
    """Against the elapsed time of the same boot; else it is the least it can have been."""
    marked_at: float | None = None
    """When a process last had the vault open, by the clock as it is set now."""
    leaves_misdated: bool = False
    """The vault may hold instants all the same that no clock has shown yet."""


class Following:
    """How far one opening of a vault follows the wall clock.

    Two processes may have seen the same step: one that was believed dead goes on. So what is
    compared is how far the instants were moved in all, by whomever, and how far they should be.

    Args:
        base: how far they had been moved when the vault was opened; see ``moved_so_far``.
    """

    def __init__(self, base: float) -> None:
        self._base = base
        self._steps: list[float] = []
        self._tried = 0
        """How many of the steps the transaction under way has looked at."""
        self._made = 0
        """How many of them the database is known to have made."""

    @property
    def set_back(self) -> float:
        """Seconds that the wall clock was set back by since the opening, negative.

        What was read before a step and is written after it is moved by the difference.
        """
        return sum(self._steps)

    @property
    def steps(self) -> int:
        """How many steps there were since the opening."""
        return len(self._steps)

    def clock_set_back(self, offset: float) -> None:
        """The wall clock was set back by OFFSET seconds, which is negative, just now."""
        self._steps.append(offset)

    def follow(self, tx: Transaction, steps: int) -> None:
        """Make the first STEPS steps, as far as nobody has made them."""
        self._tried = steps
        if steps > self._made:
            offset = self._base + sum(self._steps[:steps]) - moved_so_far(tx.connection)
            if offset < -JUMP:
                _shift(tx, offset)

    def has_made(self, steps: int) -> None:
        """The first STEPS steps are made for certain."""
        self._made = max(self._made, steps)

    def base(self, tx: Transaction) -> float:
        """From where the transaction TX lets the next steps go on, should it be committed."""
        return moved_so_far(tx.connection) - sum(self._steps[: self._tried])

    def goes_on_from(self, base: float) -> None:
        """The next steps go on from BASE: a step that nobody saw was made too."""
        self._base = base


class ClockSteps:
    """What is done to the vault about a stepped clock, each durably."""

    def __init__(
        self, following: Following, *, write: Run, clock: Clock, is_shared: bool = False
    ) -> None:
        self._following, self._write, self._clock = following, write, clock
        self._is_shared = is_shared

    async def follow(self) -> AsyncIterator[Sequence[str]]:
        """Make the last step; page by page the grants that are to be published again.

        Where several processes write, each would make it: what is misdated is made due.
        """
        if self._is_shared:
            yield await self._write(hasten_misdated)
            return
        after: int | None = 0
        while after is not None:
            names, after = await self._write(partial(moved_page, after=after))
            yield names

    async def follow_unseen(self) -> Step:
        """Follow a step while no process looked; see ``follow_unseen``."""
        since_boot = self._clock.since_boot()

        def run(tx: Transaction) -> tuple[Step, float]:
            return follow_unseen(tx, since_boot), self._following.base(tx)

        step, base = await self._write(run)
        self._following.goes_on_from(base)
        return step

    async def hasten_misdated(self) -> list[str]:
        """Make due what a clock ahead misdated; see ``hasten_misdated``."""
        return await self._write(hasten_misdated)


def moved_so_far(connection: Connection) -> float:
    """Seconds that all instants were moved by since the vault was made, negative."""
    known = connection.scalar(sa.select(facts.c.value).where(facts.c.name == _MOVED))
    return float(known or 0)


def moved_page(tx: Transaction, *, after: int) -> tuple[Sequence[str], int | None]:
    """A page of the grants whose instants follow the clock, and where it ends; None at the end."""
    behind = sa.and_(_MOVES, grants.c.id > after)
    page = sa.select(grants.c.id, grants.c.name).where(behind).order_by(grants.c.id).limit(NAMED)
    rows = tx.connection.execute(page).all()
    return [row.name for row in rows], rows[-1].id if len(rows) == NAMED else None


def mark(tx: Transaction, since_boot: SinceBoot | None) -> None:
    """Write down what the wall clock shows now.

    Args:
        since_boot: read after ``tx.now``: a pause in between then looks like a step ahead,
            which moves nothing.
    """
    boot = (None, 0.0) if since_boot is None else (since_boot.boot, since_boot.elapsed)
    set_fact(tx, MARK, json.dumps([tx.now, *boot]))


def follow_unseen(tx: Transaction, since_boot: SinceBoot | None) -> Step:
    """Move every instant by the step that the wall clock was set back since the mark.

    A clock that is further ahead than the time that has passed moves nothing, as while a
    daemon runs: a machine that was paused as a whole counts no time either.

    After another boot nobody knows how much time has passed. At the least none has, so a
    wall clock that shows less than the mark went back by that. What is left of a token's
    life cannot be told then: ``hasten_misdated`` replaces those of the future.

    Args:
        since_boot: read before ``tx.now``, for the same reason.
    """
    step = _step_since_mark(tx, since_boot)
    if others_write(tx.connection):
        # Others may be at work, and have met it: what is misdated is made due instead.
        step = replace(step, offset=0.0)
    if step.offset < -JUMP:
        _shift(tx, step.offset, but=() if step.is_measured else _OF_A_TOKEN)
    else:
        step = replace(step, offset=0.0)
    marked_at = _marked_at(tx)
    mark(tx, since_boot)
    return replace(step, marked_at=marked_at)


def _marked_at(tx: Transaction) -> float | None:
    with suppress(ValueError, TypeError, LookupError):
        return min(float(json.loads(fact(tx, MARK) or b"")[0]), tx.now)
    return None


def _step_since_mark(tx: Transaction, since_boot: SinceBoot | None) -> Step:
    with suppress(ValueError, TypeError):  # not what this program writes: as good as none
        wall, boot, elapsed = json.loads(fact(tx, MARK) or b"")
        passed = float(tx.now - wall)
        if since_boot is not None and boot == since_boot.boot:
            since_mark = since_boot.elapsed - float(elapsed)
            # A machine that was put back to an earlier state counts its time backwards.
            return Step(passed - since_mark, is_measured=True, leaves_misdated=since_mark < 0)
        return Step(passed, is_measured=False, leaves_misdated=passed < 0)
    return Step(0.0, is_measured=False, leaves_misdated=True)


def _shift(tx: Transaction, offset: float, *, but: Sequence[sa.Column[float]] = ()) -> None:
    """Move every instant by OFFSET seconds: the clock went, the time that passed did not.

    What is left of every life, wait and grace window stays what it was. The end of a
    static token is a person's word and stays.

    It is one transaction, however many grants there are: in pages an answer could be committed
    between two of them, dated by the new time, and moved by the next. Of a million grants it
    takes some 10 s of CPU, in which answers wait in the rescue file.
    """
    set_fact(tx, _MOVED, repr(moved_so_far(tx.connection) + offset))
    moved = {one.name: one + offset for one in _INSTANTS if one not in set(but)}
    update_all(tx, _MOVES, moved)
    for table, instants in _OTHERS.items():
        tx.connection.execute(
            sa.update(table).values({instant.name: instant + offset for instant in instants})
        )
    if (copied_at := fact(tx, RESTORED_FROM)) is not None:
        set_fact(tx, RESTORED_FROM, repr(float(copied_at) + offset))
    with suppress(ValueError, TypeError):
        wall, *since = json.loads(fact(tx, MARK) or b"")
        set_fact(tx, MARK, json.dumps([wall + offset, *since]))


_OTHERS = {
    revocations: (revocations.c.parked_at, revocations.c.due_at, revocations.c.ends_at),
    incidents: (incidents.c.opened_at,),
    notifications: (notifications.c.made_at, notifications.c.due_at),
    logins: (logins.c.begun_at, logins.c.ends_at, logins.c.due_at),
}


def fact(tx: Transaction, name: str) -> bytes | None:
    """The value of the fact NAME, if there is one."""
    return tx.connection.scalar(sa.select(facts.c.value).where(facts.c.name == name))


def own_fact(tx: Transaction, name: str) -> bytes | None:
    """The same, which nobody else sets until this transaction has ended."""
    locked = sa.select(facts.c.value).where(facts.c.name == name).with_for_update()
    return tx.connection.scalar(locked)


_SET_FACT = sa.text(
    "INSERT INTO facts (name, value) VALUES (:name, :value) "
    "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
).bindparams(sa.bindparam("value", type_=sa.LargeBinary))


def set_fact(tx: Transaction, name: str, value: str) -> None:
    """Let VALUE be the fact NAME from now on."""
    tx.connection.execute(_SET_FACT, {"name": name, "value": value.encode()})


def hasten_misdated(tx: Transaction) -> list[str]:
    """Make due, spread out, what a clock that was ahead has dated.

    It was set back while nobody measured by how much. What is in a token issued in what is
    the future now cannot be believed; a grant that never failed and has no token waits for
    nothing; and nothing waits past its token's end for longer than the longest wait.
    An attempt dated in the future has been sent by now, a refusal has come. A doubted grant is
    asked for when it is due: it was refused by no clock, and a restart is no question. A pause
    lasts as long as an operator has said.
    """
    for rule, past in ((IS_OPEN, grants.c.intent_first_sent_at), (IS_DOUBTED, grants.c.refused_at)):
        update_all(tx, sa.and_(rule, past > tx.now + TOLERANCE), {past.name: tx.now})
    is_doubted = grants.c.refused_at.is_not(None)
    misdated = (
        sa.select(grants.c.id, grants.c.name)
        .where(
            grants.c.due_at > tx.now,
            grants.c.state != GrantState.PAUSED.value,
            grants.c.refresh_token_sealed.is_not(None),
            sa.or_(
                sa.and_(~is_doubted, grants.c.issued_at > tx.now + TOLERANCE),
                sa.and_(~is_doubted, grants.c.issued_at.is_(None), grants.c.failures == 0),
                sa.and_(
                    grants.c.due_at > tx.now + schedule.LONGEST_WAIT + TOLERANCE,
                    sa.or_(
                        is_doubted,
                        sa.func.coalesce(grants.c.expires_at < grants.c.due_at, sa.true()),
                    ),
                ),
            ),
        )
        .order_by(grants.c.expires_at.nulls_first(), grants.c.id)
    )
    rows = tx.connection.execute(misdated).all()
    each = min(EACH, SPREAD / max(1, len(rows)))
    places = [{"grant": row.id, "instant": tx.now + each * place} for place, row in enumerate(rows)]
    hasten_each(tx, places)
    return [row.name for row in rows]
