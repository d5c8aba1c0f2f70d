"""What is read from the vault, and the one write the clock causes."""

from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.domain.commit_rule import next_version
from refresher.domain.grants import Grant, GrantState, Publication
from refresher.domain.states import pass_time
from refresher.vault.rows import Sealer, Transaction, grant_of, status_values
from refresher.vault.schema import grants

LARGEST_WINDOW = 300.0
"""No mandatory window is longer (``schedule.mandatory_window``)."""

IN_ONE_PASS = 1_000
"""Grants the clock may change in one transaction."""


def publications(connection: Connection, sealer: Sealer, names: Sequence[str]) -> list[Publication]:
    """What is to be published of NAMES, in no order; unknown names are left out."""
    rows = connection.execute(sa.select(grants).where(grants.c.name.in_(names))).mappings()
    return [sealer.publication(row) for row in rows]


def walk(connection: Connection, sealer: Sealer, after: int, limit: int) -> list[Publication]:
    """Up to LIMIT publications with ids above AFTER, in id order, removed ones included."""
    statement = sa.select(grants).where(grants.c.id > after).order_by(grants.c.id).limit(limit)
    return [sealer.publication(row) for row in connection.execute(statement).mappings()]


def list_grants(connection: Connection) -> list[Grant]:
    """Every grant that was not removed, by name."""
    statement = (
        sa.select(grants).where(grants.c.state != GrantState.REMOVED).order_by(grants.c.name)
    )
    return [grant_of(row) for row in connection.execute(statement).mappings()]


def find_grant(connection: Connection, name: str) -> Grant | None:
    """The grant NAME, unless it was removed."""
    row = connection.execute(sa.select(grants).where(grants.c.name == name)).mappings().first()
    return None if row is None or row["state"] == GrantState.REMOVED else grant_of(row)


def counts(connection: Connection) -> dict[str, int]:
    """How many grants are in each state."""
    statement = sa.select(grants.c.state, sa.func.count()).group_by(grants.c.state)
    return {str(state): int(count) for state, count in connection.execute(statement)}


def overdue(connection: Connection, before: float) -> list[Grant]:
    """Grants due before BEFORE that no exchange is working on, the longest first."""
    statement = (
        sa.select(grants)
        .where(grants.c.due_at < before, grants.c.lease_holder.is_(None))
        .order_by(grants.c.due_at)
        .limit(IN_ONE_PASS)
    )
    return [grant_of(row) for row in connection.execute(statement).mappings()]


def ending_before(connection: Connection, instant: float) -> list[Grant]:
    """Grants whose refresh token has a known end before INSTANT."""
    statement = sa.select(grants).where(
        grants.c.refresh_token_expires_at < instant,
        grants.c.state.in_([GrantState.FRESH.value, GrantState.DEGRADED.value]),
    )
    return [grant_of(row) for row in connection.execute(statement).mappings()]


def time_passed(tx: Transaction) -> list[tuple[Grant, Grant]]:
    """Move grants to the state the clock has brought them to; give back before and after."""
    statement = (
        sa.select(grants)
        .where(
            grants.c.expires_at < tx.now + LARGEST_WINDOW,
            grants.c.state.in_([GrantState.FRESH.value, GrantState.DEGRADED.value]),
        )
        .order_by(grants.c.expires_at)
    )
    moved: list[tuple[Grant, Grant]] = []
    for row in tx.connection.execute(statement).mappings():
        before = grant_of(row)
        after = pass_time(before, tx.now)
        if (after.state, after.reason) == (before.state, before.reason):
            continue
        after = replace(after, revision=next_version(before.revision, tx.now))
        moved.append((before, after))
        if len(moved) == IN_ONE_PASS:
            break
    for _, after in moved:
        tx.connection.execute(
            sa.update(grants).where(grants.c.id == after.id).values(**status_values(after))
        )
    return moved
