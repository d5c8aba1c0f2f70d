"""The statements of a claim: whose exchange may begin, and that it does.

A claim is one durable write: the lease, and the intent of the exchange that it allows.
Each function is one operation of a transaction; ``Vault`` runs them durably.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.domain import claiming, leases
from refresher.domain.claiming import Room, shared_out
from refresher.domain.commit_rule import next_version
from refresher.domain.grants import Claim, Grant, GrantState
from refresher.domain.pauses import at_its_end
from refresher.domain.reasons import Reason
from refresher.domain.shares import WHOLE, Share
from refresher.errors import GrantSetAside, VaultKeyError
from refresher.vault.batches import Again
from refresher.vault.candidates import Ahead, of_room
from refresher.vault.database import others_write
from refresher.vault.prepared import ForSome
from refresher.vault.reading import guarded, read_one
from refresher.vault.refusals import is_of_one_row
from refresher.vault.renewals import renewal_of
from refresher.vault.rows import (
    INTENT,
    Row,
    Transaction,
    Values,
    as_row,
    grant_of,
    intent_values,
    status_values,
)
from refresher.vault.schema import grants


def _arm(numbers: Sequence[sa.BindParameter[int]], *, beside_others: bool) -> sa.Executable:
    """Lease the due ones of NUMBERS and write their intents, as ``claiming.armed`` says.

    Args:
        beside_others: what another process has locked just now is left to it.
    """
    now, sequence = sa.bindparam("now", type_=sa.Float), grants.c.attempt_sequence + 1
    goes_on = grants.c.intent_presented == grants.c.refresh_token_fingerprint
    due = sa.and_(
        grants.c.id.in_(numbers),
        grants.c.lease_holder.is_(None),
        grants.c.due_at <= now,
        sa.or_(
            sa.and_(*(grants.c[name].is_(None) for name in INTENT)),
            sa.and_(*(grants.c[name].is_not(None) for name in INTENT)),
        ),
    )
    if beside_others:
        free = sa.select(grants.c.id).where(due).with_for_update(skip_locked=True)
        due = grants.c.id.in_(free)
    armed = sa.update(grants).where(due)
    return armed.values(
        attempt_sequence=sequence,
        intent_sequence=sequence,
        intent_presented=grants.c.refresh_token_fingerprint,
        intent_first_sent_at=sa.case((goes_on, grants.c.intent_first_sent_at), else_=now),
        intent_attempts=sa.case((goes_on, grants.c.intent_attempts + 1), else_=1),
        lease_holder=sa.bindparam("holder"),
        lease_taken_at=now,
        lease_ends_at=sa.bindparam("ends_at"),
        claimed_by=sa.bindparam("name"),
    ).returning(*grants.c)


_ARM = {beside: ForSome(partial(_arm, beside_others=beside)) for beside in (False, True)}

_LEFT = ForSome(
    lambda numbers: (
        sa.select(grants.c.id)
        .where(
            grants.c.id.in_(numbers),
            grants.c.lease_holder.is_(None),
            grants.c.due_at <= sa.bindparam("now", type_=sa.Float),
        )
        .with_for_update(skip_locked=True)
    )
)
"""What could have been claimed and was not: nobody else has it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one turn of the scheduler may claim.

    Args:
        name: what people know the holder by, where several share the vault.
        ahead: what was read of the due grants before.
        disturbances: how often something else was handed over (``Transactions``).
        rooms: the clients that may begin exchanges; others are left alone.
        shared: places for all of them together, beside the one that each gate has itself.
        only: a grant's name: no other is claimed.
        older_than: before which instant what it holds of a grant may be older than the truth.
        unsent: claims whose commit was refused: taken back first, should it have taken effect.
        made: what is claimed, also where nobody knows whether that took effect.
        set_back: what the clock had been set back by before it (``Claim``).
        share: which of what is due is begun with, where others begin at the same time.
    """

    holder: str
    name: str | None
    ahead: Ahead
    disturbances: int
    rooms: Sequence[Room]
    shared: int
    only: str | None = None
    older_than: Callable[[str], float | None] = lambda _: None
    unsent: Sequence[Claim] = ()
    made: list[Claim] = field(default_factory=list)
    set_back: float = 0.0
    share: Share = WHOLE

    def lease(self, now: float) -> Values:
        """What a claim of NOW writes beside its intent."""
        length = leases.length(max((room.response_timeout for room in self.rooms), default=0.0))
        return {"holder": self.holder, "ends_at": now + length, "name": self.name}


Claimed = tuple[list[Claim], list[Grant]]
"""Claims, and the grants that were paused because no key opens their tokens, or whose pause has
come to its end."""


def claim(work: Sequence[tuple[Transaction, Wanted]]) -> list[Claimed]:
    """Lease due grants and write their intents, one statement for all of them.

    Raises:
        Again: one of the rows makes trouble.
    """
    return [(_claim_at_once(tx, wanted), []) for tx, wanted in work]


def _claim_at_once(tx: Transaction, wanted: Wanted) -> list[Claim]:
    numbers = _chosen(tx, wanted, wanted.ahead)
    if not numbers:
        return []
    values = {"now": tx.now, **wanted.lease(tx.now)}
    is_shared = others_write(tx.connection)
    try:
        found = _ARM[is_shared].rows(tx.connection, numbers, values)
        rows = [as_row(values) for values in found]
        armed = {row["id"]: grant_of(row) for row in rows}
        claims = {row["id"]: _claim_of(tx, row, armed[row["id"]], wanted) for row in rows}
        # Whatever others did not leave is theirs; to be sure of it costs less than to read each.
        is_taken = is_shared and (claims or not _LEFT.rows(tx.connection, numbers, values))
    except Exception as error:
        if isinstance(error, VaultKeyError | GrantSetAside) or is_of_one_row(error):
            raise Again from error
        raise
    is_pause_over = any(grant.state is GrantState.PAUSED for grant in armed.values())
    if (len(claims) != len(numbers) and not is_taken) or is_pause_over:
        raise Again  # half an intent is no intent; the end of a pause changes more than that
    wanted.made[:] = [claims[number] for number in numbers if number in claims]
    wanted.ahead.drop(numbers)
    return wanted.made


def claim_each(tx: Transaction, wanted: Wanted) -> Claimed:
    """The same one by one: a row that cannot be read, or opened, holds up no other."""
    wanted.made.clear()
    wanted.ahead.forget()
    changed: list[Grant] = []
    is_shared = others_write(tx.connection)
    for number in _chosen(tx, wanted, None):
        try:
            claimed = guarded(tx, number, partial(_claim_row, tx, number, wanted, changed))
        except VaultKeyError as error:
            stop = partial(_leave_aside, error=error) if is_shared else _pause
            stopped = guarded(tx, number, partial(stop, tx, number))
            changed += [] if stopped is None else [stopped]
        else:
            wanted.made.extend([] if claimed is None else [claimed])
    return wanted.made, changed


def _chosen(tx: Transaction, wanted: Wanted, ahead: Ahead | None) -> list[int]:
    """Whose exchanges are to begin."""
    take_back(tx, wanted.holder, wanted.unsent)
    wanted.ahead.heed(wanted.disturbances, is_doubted=bool(wanted.unsent))
    rooms = wanted.rooms
    candidates = [
        each for room in rooms for each in of_room(tx, room, wanted.only, ahead, wanted.share)
    ]
    reserves = {room.gate for room in rooms if room.has_reserve}
    return [each.id for each in shared_out(candidates, reserves, wanted.shared)]


def _claim_row(tx: Transaction, number: int, wanted: Wanted, changed: list[Grant]) -> Claim | None:
    row = row_by_id(tx, number)
    assert row is not None
    stored = grant_of(row)
    if row["lease_holder"] is not None or stored.due_at is None or stored.due_at > tx.now:
        return None  # another replica was faster
    grant, ended = at_its_end(stored, tx.now), Values()
    if grant != stored:
        grant = replace(grant, revision=next_version(stored.revision, tx.now))
        ended = status_values(grant)
    armed, lease = claiming.armed(grant, tx.now), wanted.lease(tx.now)
    claim = _claim_of(tx, row, armed, wanted)
    tx.connection.execute(
        sa.update(grants)
        .where(grants.c.id == number)
        .values(
            **ended | intent_values(armed.intent),
            attempt_sequence=armed.attempt_sequence,
            lease_holder=wanted.holder,
            lease_taken_at=tx.now,
            lease_ends_at=lease["ends_at"],
            claimed_by=wanted.name,
        )
    )
    if ended:
        changed.append(grant)
    return claim


def _claim_of(tx: Transaction, row: Row, armed: Grant, wanted: Wanted) -> Claim:
    """The claim of ARMED, whose tokens are in ROW."""
    copied_at = wanted.older_than(armed.name)
    access_token, extras = tx.sealer.access_token(row)
    return Claim(
        grant=armed,
        renewal=renewal_of(tx, row, armed),
        access_token=access_token,
        extras=extras,
        granted_scope=row["granted_scope"],
        token_type=row["token_type"],
        witness_at=None if armed.refused_at is None else _witness_at(tx, armed),
        is_of_copy=copied_at is not None and claiming.is_untouched_since(armed, copied_at),
        set_back=wanted.set_back,
        seen=wanted.disturbances,
        taken_at=tx.now,
    )


_HELD = ForSome(
    lambda numbers: sa.select(
        grants.c.id,
        grants.c.lease_holder,
        grants.c.attempt_sequence,
        grants.c.authorization_serial,
        grants.c.refresh_token_fingerprint,
    ).where(grants.c.id.in_(numbers), grants.c.state != sa.literal(GrantState.PAUSED.value))
)


def are_held(connection: Connection, asked: Sequence[tuple[str, Claim]]) -> list[bool]:
    """Whether each claim is still its holder's latest, and presents the refresh token stored now.

    Not once its grant was paused.
    """
    numbers = [claimed.grant.id for _, claimed in asked]
    stored = {number: tuple(kept) for number, *kept in _HELD.rows(connection, numbers, {})}
    return [
        stored.get(claimed.grant.id)
        == (
            holder,
            claimed.intent.sequence,
            claimed.grant.authorization_serial,
            claimed.intent.presented,
        )
        for holder, claimed in asked
    ]


def take_back(tx: Transaction, holder: str, claims: Sequence[Claim]) -> None:
    """Undo CLAIMS whose commit was refused, where it took effect all the same.

    Nobody works on them and nothing was sent, so neither lease nor attempt may stand.
    """
    for claimed in claims:
        unsent = {"lease_holder": None, "lease_taken_at": None}
        tx.connection.execute(
            sa.update(grants)
            .where(
                grants.c.id == claimed.grant.id,
                grants.c.lease_holder == holder,
                grants.c.attempt_sequence == claimed.intent.sequence,
            )
            .values(**unsent | intent_values(claimed.intent.without_one))
        )


def _leave_aside(tx: Transaction, number: int, error: VaultKeyError) -> None:
    """Leave a grant whose tokens no key opens here to other replicas, which may have the key."""
    row = row_by_id(tx, number)
    assert row is not None
    tx.aside.put_unclaimed(grant_of(row), error)


def _pause(tx: Transaction, number: int) -> Grant:
    """Pause a grant whose tokens no key opens: it must not keep the others from their turn."""
    row = row_by_id(tx, number)
    assert row is not None
    grant = replace(
        grant_of(row),
        state=GrantState.PAUSED,
        reason=Reason.UNREADABLE,
        since=tx.now,
        due_at=None,
        revision=next_version(row["revision"], tx.now),
    )
    tx.connection.execute(
        sa.update(grants).where(grants.c.id == grant.id).values(**status_values(grant))
    )
    return grant


def _witness_at(tx: Transaction, grant: Grant) -> float | None:
    """When another grant of the client of GRANT was last served."""
    others = (
        sa.select(grants.c.served_at)
        .where(
            grants.c.client == grant.client,
            grants.c.served_at.is_not(None),
            grants.c.id != grant.id,
        )
        .order_by(grants.c.served_at.desc())
        .limit(1)
    )
    return tx.connection.scalar(others)


def row_by_id(tx: Transaction, grant_id: int) -> sa.RowMapping | None:
    """The row GRANT_ID, locked where the database locks rows."""
    return read_one(tx.connection, grants.c.id == grant_id)


def overlaid(row: sa.RowMapping, values: Values) -> Any:
    """ROW as it is once VALUES are written."""
    return dict(row) | values
