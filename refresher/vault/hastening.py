"""The statements that make grants due earlier than planned, because something was mended.

Each function is one operation of a transaction; ``Vault`` runs them durably.
"""

from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa

from refresher.domain.commit_rule import next_version
from refresher.domain.grants import Fault, Grant, GrantState
from refresher.domain.reasons import Reason, worded
from refresher.vault.changes import What, note
from refresher.vault.reading import read_all, update_all
from refresher.vault.rows import Transaction, grant_of, status_values
from refresher.vault.schema import grants


def hasten_blocked(tx: Transaction, client: str) -> list[str]:
    """Make due the grants of CLIENT that wait for its configuration to be mended."""
    blocked = [f"{reason}%" for reason in (Reason.CLIENT_REJECTED, Reason.MISCONFIGURED)]
    waiting = sa.and_(
        grants.c.client == client,
        grants.c.due_at.is_not(None),
        sa.or_(*(grants.c.reason.like(pattern) for pattern in blocked)),
    )
    names = tx.connection.scalars(sa.select(grants.c.name).where(waiting)).all()
    update_all(tx, waiting, {"due_at": tx.now})
    return list(names)


def hasten_after_outage(tx: Transaction, clients: Sequence[str], each: float) -> None:
    """Make due, EACH seconds apart, the grants of CLIENTS whose endpoint was at fault.

    Nothing becomes due later by it, and a grant that fails by itself, or is paused, waits as
    it did.
    """
    waiting = (
        sa.select(grants.c.id)
        .where(
            grants.c.client.in_(clients),
            grants.c.fault == Fault.ENDPOINT.value,
            grants.c.due_at > tx.now,
            grants.c.state != GrantState.PAUSED.value,
            grants.c.lease_holder.is_(None),
        )
        .order_by(grants.c.expires_at.nulls_first())
    )
    ids = tx.connection.scalars(waiting).all()
    if not ids:
        return
    earlier = (
        sa.update(grants)
        .where(grants.c.id == sa.bindparam("grant"), grants.c.due_at > sa.bindparam("instant"))
        .values(due_at=sa.bindparam("instant"))
    )
    tx.connection.execute(
        earlier,
        [{"grant": id_, "instant": tx.now + each * place} for place, id_ in enumerate(ids)],
    )


def single_out(tx: Transaction, client: str, each: float) -> list[Grant]:
    """Give the grants of CLIENT that its server refused a state of their own: others are served.

    They are asked for once more, EACH seconds apart; if the client itself was mended meanwhile
    they are served too.

    Returns:
        The grants as they are now.
    """
    refused = grants.c.reason.like(f"{Reason.CLIENT_REJECTED}%")
    waiting = sa.and_(grants.c.client == client, grants.c.due_at.is_not(None), refused)
    found = []
    for place, before in enumerate(read_all(tx.connection, tx.aside, waiting, grant_of)):
        after = replace(
            before,
            reason=worded(Reason.NOT_AUTHORIZED, before.reason_detail),
            fault=Fault.GRANT,
            due_at=tx.now + each * (place + 1),
            revision=next_version(before.revision, tx.now),
        )
        update_all(tx, grants.c.id == after.id, status_values(after))
        found.append(after)
    return found


def ask_lost(tx: Transaction, names: Sequence[str] | None, client: str | None) -> list[str]:
    """Make due once more what was finally rejected, on an operator's word.

    One after the other, since they share the one place of the doubted; the one that was
    served last comes first, because it is the likeliest to be good.

    Args:
        names: these grants; None takes all.
        client: those of this client; None takes all.

    Returns:
        The names that are asked for, in their order.
    """
    conditions = [
        grants.c.state == GrantState.REAUTHORIZATION_REQUIRED.value,
        grants.c.refresh_token_sealed.is_not(None),
    ]
    if names is not None:
        conditions.append(grants.c.name.in_(names))
    if client is not None:
        conditions.append(grants.c.client == client)
    rows = tx.connection.execute(
        sa.select(grants.c.id, grants.c.name, grants.c.client)
        .where(*conditions)
        .order_by(grants.c.served_at.desc().nulls_last(), grants.c.name)
    ).all()
    for place, row in enumerate(rows):
        tx.connection.execute(
            sa.update(grants)
            .where(grants.c.id == row.id)
            .values(due_at=tx.now + place * ORDER, refused_at=tx.now, refusals=0, failures=0)
        )
        note(tx, What.REFRESH_ORDERED, name=row.name, client=row.client)
    return [row.name for row in rows]


ORDER = 0.001
"""Seconds between two due instants that only keep an order."""
