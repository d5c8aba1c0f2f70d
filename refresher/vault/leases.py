"""The leases of a vault: ended where their holder is dead, taken over where several share it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import sqlalchemy as sa

from refresher.clock import Clock
from refresher.domain import leases as rule
from refresher.domain.commit_rule import next_version
from refresher.domain.grants import Claim, Grant
from refresher.domain.leases import Holder, Lease
from refresher.domain.shares import WHOLE, Share
from refresher.vault.heartbeats import (
    ALIVE,
    Backend,
    Backends,
    Replica,
    Sign,
    beat,
    known,
    leave,
    mark_gone,
)
from refresher.vault.reading import guarded, read_all, update_all
from refresher.vault.rows import Transaction, grant_of, status_values
from refresher.vault.schema import grants, replicas
from refresher.vault.transactions import Transactions

Resume = Callable[[Grant], Grant | None]
"""Decides what becomes of a grant whose exchange was left open; None leaves it as it is."""

Judge = Callable[[Grant, Lease, Holder, float], bool]
"""Whether the exchange of a grant may be taken over from a holder now."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One exchange that was taken over."""

    holder: str
    before: Grant
    after: Grant | None
    """None where there was nothing to resume."""


@dataclass(slots=True)
class TakenOver:
    """What one look at the leases of silent holders brought."""

    exchanges: list[Taken] = field(default_factory=list)
    left: set[str] = field(default_factory=set)
    """Holders of which some are still waited for."""


class Leases:
    """The leases of an open vault, and its holder's own life where others share it.

    Each method raises ``VaultUnavailable`` when the vault refuses.

    Args:
        holder: names this opening of the vault.
        name: what people know it by.
        backends: None where the file lock keeps everybody else out.
    """

    def __init__(
        self,
        transactions: Transactions,
        clock: Clock,
        holder: str,
        name: str | None = None,
        backends: Backends | None = None,
    ) -> None:
        self._transactions, self._clock = transactions, clock
        self.holder, self.name, self._backends = holder, name, backends
        self._heard_since = self._heard_at = 0.0
        self._backend: Backend | None = None
        self._connected_at = 0.0
        """Since when it is connected, where it was before as well."""
        self._has_left = False
        self.is_reconnected = False
        """The last heartbeat came over another connection than the one before."""
        self.replicas: list[Replica] = []
        """All that the last heartbeat has found, this one among them."""

    @property
    def is_shared(self) -> bool:
        """Whether other holders may work on the same vault."""
        return self._backends is not None

    @property
    def may_judge(self) -> bool:
        """Whether this holder was heard of for long enough to call others silent.

        Whatever kept it from the vault may have kept the others, who are to be heard first.
        """
        return self._clock.now() - self._heard_since >= rule.MISSED

    def share(self) -> Share:
        """Which part of a provider's limits is this replica's.

        One that has only come waits until the others must have heard of it, and given it up.
        """
        if not self.is_shared:
            return WHOLE
        heard_at = self._heard_at
        living = [
            one.holder
            for one in self.replicas
            if one.holder == self.holder or not one.life.is_silent(heard_at)
        ]
        if len(living) > 1 and not self.may_judge:
            return Share(len(living), None)
        return Share(max(len(living), 1), living.index(self.holder) if living else 0)

    def may_begin(self, claim: Claim) -> bool:
        """Whether the request of CLAIM may still be sent, for all that others may take over."""
        return not self.is_shared or rule.may_begin(
            claim.taken_at, self._heard_at, self._clock.now()
        )

    async def beat(self, sign: Sign = ALIVE) -> list[Replica]:
        """Say that this holder lives; who else does, or did."""
        backends = self._backends
        if backends is None or self._has_left:
            return []
        now, before = self._clock.now(), self._backend

        def write(tx: Transaction) -> tuple[Backend | None, float, list[Replica]]:
            own, since = backends.own(tx.connection), self._connected_at
            if own is not None and before not in {None, own}:
                since = own.started_at
            beat(tx, self.holder, self.name or self.holder, own, backends.reading, sign=sign)
            mark_gone(tx, self.holder, backends, since, self._clock)
            return own, since, known(tx.connection)

        own, since, found = await self._transactions.write(write, now=now, disturbs=False)
        self._backend, self._connected_at, self.replicas = own, since, found
        if now - self._heard_at > rule.MISSED:
            self._heard_since = now
        self._heard_at = max(self._heard_at, now)
        self.is_reconnected = before not in {None, own}
        return [one for one in self.replicas if one.holder != self.holder]

    async def leave(self) -> None:
        """Be no replica any more, in order: what is still leased is waited for as ever."""
        if self.is_shared and not self._has_left:
            self._has_left = True
            await self._transactions.write(lambda tx: leave(tx, self.holder), disturbs=False)

    async def take_over(
        self, judge: Judge, resume: Resume, *, only: Sequence[str] | None = None
    ) -> TakenOver | None:
        """End leases of silent holders as JUDGE lets it; see ``take_over``.

        None where this holder may not judge yet.
        """
        if not self.may_judge:
            return None
        if not await self._transactions.read(lambda tx: silent(tx, self.holder)):
            return TakenOver()
        return await self._transactions.write(
            lambda tx: take_over(tx, self.holder, judge, resume, only=only)
        )

    async def release(
        self, resume: Resume, *, only: Sequence[str] | None = None
    ) -> list[tuple[Grant, Grant]]:
        """End the leases of dead processes; see ``release``."""
        return await self._transactions.write(lambda tx: release(tx, resume, only=only))


def silent(tx: Transaction, holder: str) -> bool:
    """Whether anything is leased to somebody but HOLDER who is not heard of."""
    # PostgreSQL takes what it knows nothing of for common, and would look through all grants: in
    # this order it has to go by the index on what is under way.
    order = (grants.c.client, grants.c.intent_first_sent_at)
    found = sa.select(grants.c.id).where(_of_silent(tx, holder)).order_by(*order).limit(1)
    return tx.connection.scalar(found) is not None


def take_over(
    tx: Transaction,
    holder: str,
    judge: Judge,
    resume: Resume,
    *,
    only: Sequence[str] | None = None,
) -> TakenOver:
    """End the leases of silent holders that JUDGE lets HOLDER end.

    What they left open is scheduled in the same transaction, as in ``release``. Another replica
    that does the same at the same time finds nothing left of it.

    Args:
        only: the names of the grants that are looked at.
    """
    # Whoever is heard of by now is found alive; the others are heard of after this alone, and
    # then they see that they have lost their leases.
    quiet = [one.holder for one in known(tx.connection) if one.life.is_silent(tx.now)]
    locked = sa.select(replicas.c.holder).where(replicas.c.holder.in_(quiet)).with_for_update()
    tx.connection.execute(locked.order_by(replicas.c.holder))
    lives = {one.holder: one.life for one in known(tx.connection)}
    leased = _of_silent(tx, holder)
    if only is not None:
        leased = sa.and_(leased, grants.c.name.in_(only))
    done = TakenOver()
    oldest_first = [grants.c.intent_first_sent_at]
    for before, lease, its in read_all(
        tx.connection, tx.aside, leased, _leased, order=oldest_first
    ):
        if not judge(before, lease, lives.get(its, Holder()), tx.now):
            done.left.add(its)
            continue
        after = resume(before)
        if guarded(tx, before.id, partial(_end, tx, its, before, after)):
            done.exchanges.append(Taken(its, before, after))
    return done


def release(
    tx: Transaction, resume: Resume, *, only: Sequence[str] | None = None
) -> list[tuple[Grant, Grant]]:
    """End every lease: the caller holds the file lock, so their holders are dead.

    What they left open is scheduled in the same transaction: a process that dies right
    here leaves either all of it to the next one, or nothing.

    Args:
        only: the names of grants that were set aside, and are nobody's work either.

    Returns:
        The grants that were resumed, before and after.
    """
    leased = grants.c.lease_holder.is_not(None)
    if only is not None:
        leased = grants.c.name.in_(only)
    # In the order of ids every grant there is would be looked through.
    oldest_first = [grants.c.intent_first_sent_at]
    found = read_all(tx.connection, tx.aside, leased, grant_of, order=oldest_first)
    update_all(tx, leased, _ENDED)
    resumed = []
    for before in found:
        after = resume(before)
        if after is None:
            continue
        values = status_values(replace(after, revision=next_version(after.revision, tx.now)))
        update_all(tx, grants.c.id == after.id, values)
        resumed.append((before, after))
    return resumed


_ENDED = {"lease_holder": None, "lease_taken_at": None}


def _end(tx: Transaction, holder: str, before: Grant, after: Grant | None) -> bool:
    """End the lease of HOLDER; whether it still was the one of BEFORE."""
    values = dict(_ENDED)
    if after is not None:
        revision = next_version(after.revision, tx.now)
        values |= status_values(replace(after, revision=revision))
    same = sa.and_(
        grants.c.id == before.id,
        grants.c.lease_holder == holder,
        grants.c.revision == before.revision,
        grants.c.attempt_sequence == before.attempt_sequence,
    )
    return tx.connection.execute(sa.update(grants).where(same).values(values)).rowcount == 1


def _of_silent(tx: Transaction, holder: str) -> sa.ColumnElement[bool]:
    """What is leased to somebody but HOLDER who is not heard of."""
    heard = [one.holder for one in known(tx.connection) if not one.life.is_silent(tx.now)]
    somebody = grants.c.lease_holder
    return sa.and_(somebody.is_not(None), somebody.not_in([holder, *heard]))


def _leased(row: sa.RowMapping) -> tuple[Grant, Lease, str]:
    taken_at, ends_at = row["lease_taken_at"], row["lease_ends_at"]
    if ends_at is None:  # of a version that knew no end
        ends_at = taken_at + rule.length(0.0)
    return grant_of(row), Lease(taken_at, ends_at), row["lease_holder"]
