"""The statements of one refresh: claim, commit, and what a restart must take up again.

Each function is one operation of a transaction; ``Vault`` runs them durably.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.domain.adoption import Transition
from refresher.domain.commit_rule import Verdict, judge, merge, next_version
from refresher.domain.grants import Claim, Grant, GrantState, Reason, TokenSet
from refresher.errors import VaultKeyError
from refresher.vault.aside import Aside
from refresher.vault.kept import keep_orphan, keep_unreadable
from refresher.vault.reading import guarded, read_all, read_one, update_all
from refresher.vault.rows import Transaction, Values, grant_of, intent_values, status_values
from refresher.vault.schema import grants
from refresher.vault.spent import remember_spent


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of an outcome, and the grant as it is stored now (None: it is gone)."""

    verdict: Verdict
    grant: Grant | None


def claim(
    tx: Transaction,
    holder: str,
    room: Mapping[str, int],
    total: int,
    *,
    only: str | None = None,
    since: Mapping[str, float] | None = None,
    restored_from: float | None = None,
    paused: list[Grant] | None = None,
) -> list[Claim]:
    """Lease due grants to HOLDER and write their intents, least time left first.

    Args:
        room: how many exchanges each client may begin now; others are left alone.
        total: how many all together.
        only: a grant's name: no other is claimed.
        since: by client, only replays whose first attempt was sent after that instant.
        restored_from: when the copy was made that this vault is.
        paused: takes the grants whose tokens no key opens, to be told once that is durable.
    """
    due: list[Any] = []
    for client, free in room.items():
        conditions = _replays(client, since)
        if only is not None:
            conditions.append(grants.c.name == only)
        due.extend(_due(tx, client, free, conditions))
    due.sort(key=_time_left)
    claims: list[Claim] = []
    for candidate in due[:total]:
        number = candidate.id
        try:
            claimed = guarded(tx, number, partial(_claim_row, tx, number, holder, restored_from))
        except VaultKeyError:
            stopped = guarded(tx, number, partial(_pause, tx, number))
            if stopped is not None and paused is not None:
                paused.append(stopped)
        else:
            claims += [] if claimed is None else [claimed]
    return claims


def _replays(client: str, since: Mapping[str, float] | None) -> list[sa.ColumnElement[bool]]:
    return [] if since is None else [grants.c.intent_first_sent_at > since[client]]


def _due(
    tx: Transaction, client: str, free: int, conditions: list[sa.ColumnElement[bool]]
) -> Sequence[Any]:
    """The FREE due grants of CLIENT with the least time left, found in one index alone.

    After an outage everything is due at once, and each claim looks through all of it.
    """
    statement = (
        # The cast: what a damaged row has there may be no number.
        sa.select(
            grants.c.id, sa.cast(grants.c.expires_at, sa.Float).label("expires_at"), grants.c.due_at
        )
        .where(
            grants.c.id.not_in(tx.aside.ids),
            grants.c.client == client,
            grants.c.due_at <= tx.now,
            grants.c.lease_holder.is_(None),
            *conditions,
        )
        .order_by(grants.c.expires_at.nulls_first(), grants.c.due_at)
        .limit(max(free, 0))
    )
    return tx.connection.execute(statement).all()


def _time_left(row: Any) -> tuple[float, float]:
    """What has no token at all comes first."""
    return -math.inf if row.expires_at is None else row.expires_at, row.due_at


def _claim_row(tx: Transaction, number: int, holder: str, restored_from: float | None) -> Claim:
    row = row_by_id(tx, number)
    assert row is not None
    grant = grant_of(row)
    refresh_token = tx.sealer.refresh_token(row)
    access_token, _ = tx.sealer.access_token(row)
    sequence = grant.attempt_sequence + 1
    opened = grant.intent
    if opened is not None and opened.presented != grant.refresh_token_fingerprint:
        opened = None  # it presented a predecessor: this refresh token has never been sent
    intent: Values = {
        "intent_sequence": sequence,
        "intent_presented": grant.refresh_token_fingerprint,
        "intent_first_sent_at": opened.first_sent_at if opened else tx.now,
        "intent_attempts": opened.attempts + 1 if opened else 1,
    }
    tx.connection.execute(
        sa.update(grants)
        .where(grants.c.id == grant.id)
        .values(attempt_sequence=sequence, lease_holder=holder, lease_taken_at=tx.now, **intent)
    )
    return Claim(
        grant=grant_of(_overlaid(row, intent | {"attempt_sequence": sequence})),
        refresh_token=refresh_token,
        access_token=access_token,
        granted_scope=row["granted_scope"],
        is_of_copy=restored_from is not None and _is_untouched_since(grant, restored_from),
    )


def _is_untouched_since(grant: Grant, instant: float) -> bool:
    """Whether neither an answer nor a person has given GRANT anything after INSTANT."""
    known = (grant.issued_at, grant.refresh_token_obtained_at)
    return all(at is None or at <= instant for at in known)


def is_held(connection: Connection, holder: str, claimed: Claim) -> bool:
    """Whether CLAIMED is still HOLDER's latest, and presents the refresh token stored now."""
    found = connection.scalar(
        sa.select(grants.c.id).where(
            grants.c.id == claimed.grant.id,
            grants.c.lease_holder == holder,
            grants.c.attempt_sequence == claimed.intent.sequence,
            grants.c.authorization_serial == claimed.grant.authorization_serial,
            grants.c.refresh_token_fingerprint == claimed.intent.presented,
        )
    )
    return found is not None


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


def commit(tx: Transaction, claimed: Claim, outcome: Transition) -> Committed:
    """Apply OUTCOME of the exchange CLAIMED allowed, if the commit rule lets it count.

    Tokens that fail the rule are sealed as an orphan, and what nobody understood is kept
    whatever the verdict; nothing is ever thrown away.
    """
    row = row_by_id(tx, claimed.grant.id)
    stored = grant_of(row) if row is not None else None
    intent = claimed.intent
    verdict = Verdict.SUPERSEDED
    if stored is not None:
        verdict = judge(stored, claimed.grant, intent, outcome.tokens)
    if verdict is Verdict.APPLY:
        assert row is not None
        return Committed(verdict, _apply(tx, row, claimed, outcome))
    if stored is not None and stored.attempt_sequence == intent.sequence:
        _release(tx, stored.id)
    if verdict is Verdict.SUPERSEDED:
        if outcome.tokens is not None:
            keep_orphan(tx, claimed.grant, intent.sequence, outcome.tokens)
        if outcome.kept is not None:
            keep_unreadable(tx, claimed.grant, intent, outcome.kept)
    return Committed(verdict, stored)


def _apply(tx: Transaction, row: sa.RowMapping, claimed: Claim, outcome: Transition) -> Grant:
    stored, intent = grant_of(row), claimed.intent
    after = merge(stored, claimed.grant, outcome.grant, intent)
    after = replace(after, revision=next_version(stored.revision, tx.now))
    values = status_values(after)
    if (tokens := outcome.tokens) is not None:
        values["adopted_sequence"] = intent.sequence
        values |= _token_values(tx, stored, tokens, intent.presented)
    elif after.state is GrantState.REAUTHORIZATION_REQUIRED:
        remember_spent(tx, stored, intent.presented)
    if stored.attempt_sequence == intent.sequence:
        values |= {"lease_holder": None, "lease_taken_at": None}
    tx.connection.execute(sa.update(grants).where(grants.c.id == stored.id).values(**values))
    if outcome.kept is not None:
        keep_unreadable(tx, claimed.grant, intent, outcome.kept)
    return grant_of(_overlaid(row, values))


def _token_values(tx: Transaction, stored: Grant, tokens: TokenSet, presented: bytes) -> Values:
    values: Values = {}
    if tokens.refresh_token is not None:
        values |= tx.sealer.refresh_token_values(
            stored.uid, tokens.refresh_token, presented=presented, obtained_at=tx.now
        )
    if tokens.access_token is not None:
        values |= tx.sealer.access_token_values(stored.uid, tokens)
        values["version"] = next_version(stored.version, tx.now)
    return values


def release_leases(
    tx: Transaction,
    resume: Callable[[Grant], Grant | None],
    *,
    only: Sequence[str] | None = None,
) -> list[tuple[Grant, Grant]]:
    """End every lease: the caller holds the file lock, so their holders are dead.

    What they left open is scheduled in the same transaction: a process that dies right
    here leaves either all of it to the next one, or nothing.

    Args:
        resume: decides what becomes of a grant; None leaves it as it is.
        only: the names of grants that were set aside, and are nobody's work either.

    Returns:
        The grants that were resumed, before and after.
    """
    leased = grants.c.lease_holder.is_not(None)
    if only is not None:
        leased = grants.c.name.in_(only)
    found = read_all(tx.connection, tx.aside, leased, grant_of)
    update_all(tx, leased, {"lease_holder": None, "lease_taken_at": None})
    resumed = []
    for before in found:
        after = resume(before)
        if after is None:
            continue
        values = status_values(replace(after, revision=next_version(after.revision, tx.now)))
        update_all(tx, grants.c.id == after.id, values)
        resumed.append((before, after))
    return resumed


def next_due(
    connection: Connection,
    clients: Sequence[str],
    *,
    aside: Aside,
    since: Mapping[str, float] | None = None,
) -> float | None:
    """When the first unleased grant of CLIENTS is due.

    Args:
        since: by client, only replays whose first attempt was sent after that instant.
    """
    firsts = [
        connection.scalar(
            sa.select(grants.c.due_at)
            .where(
                grants.c.id.not_in(aside.ids),
                grants.c.client == client,
                grants.c.due_at.is_not(None),
                grants.c.lease_holder.is_(None),
                *_replays(client, since),
            )
            .order_by(grants.c.due_at)
            .limit(1)
        )
        for client in clients
    ]
    return min((first for first in firsts if first is not None), default=None)


def row_by_id(tx: Transaction, grant_id: int) -> sa.RowMapping | None:
    """The row GRANT_ID, locked where the database locks rows."""
    return read_one(tx.connection, grants.c.id == grant_id)


def _release(tx: Transaction, grant_id: int) -> None:
    tx.connection.execute(
        sa.update(grants)
        .where(grants.c.id == grant_id)
        .values(lease_holder=None, lease_taken_at=None)
    )


def _overlaid(row: sa.RowMapping, values: Values) -> Any:
    return dict(row) | values
