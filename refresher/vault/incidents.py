"""Incidents: a server that refuses several grants at once which it served before.

It is told once when it begins and once when it is over, whoever restarts meanwhile, so it
is a row of the vault.
"""

from dataclasses import dataclass
from functools import cache

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.domain.grants import GrantState
from refresher.vault.prepared import Prepared
from refresher.vault.rows import Transaction
from refresher.vault.schema import grants, incidents

ENOUGH, WITHIN = 3, 600.0
"""Grants doubted within so many seconds that make an incident."""


@dataclass(frozen=True, slots=True)
class Incident:
    """What is told of one."""

    client: str
    count: int
    """Grants doubted; of one that is over, the most there were."""
    since: float
    """When the first of them was refused."""


def opened(tx: Transaction, client: str | None) -> Incident | None:
    """The incident of CLIENT, if the refusal just written has opened it."""
    known = tx.connection.execute(
        sa.select(incidents.c.count).where(incidents.c.client == client)
    ).scalar()
    refused_at = tx.connection.scalars(
        sa.select(grants.c.refused_at).where(grants.c.client == client, *_doubted())
    ).all()
    if known is not None:
        tx.connection.execute(
            sa.update(incidents)
            .where(incidents.c.client == client)
            .values(count=max(known, len(refused_at)))
        )
        return None
    if client is None or sum(at > tx.now - WITHIN for at in refused_at) < ENOUGH:
        return None
    incident = Incident(client, len(refused_at), min(refused_at))
    tx.connection.execute(
        sa.insert(incidents).values(client=client, opened_at=incident.since, count=incident.count)
    )
    return incident


def over(connection: Connection) -> list[Incident]:
    """The incidents of whose clients nothing is doubted any more."""
    return [Incident(*row) for row in _over().rows(connection, {})]


@cache
def _over() -> Prepared:
    doubted = sa.select(grants.c.id).where(grants.c.client == incidents.c.client, *_doubted())
    ended = sa.select(incidents.c.client, incidents.c.count, incidents.c.opened_at)
    return Prepared(ended.where(~doubted.exists()))


def close(tx: Transaction) -> list[Incident]:
    """Forget the incidents that are over; each is given back once."""
    found = over(tx.connection)
    for incident in found:
        tx.connection.execute(sa.delete(incidents).where(incidents.c.client == incident.client))
    return found


def _doubted() -> tuple[sa.ColumnElement[bool], ...]:
    """Refused, served before, and not lost: what an operator has asked for again is."""
    return (
        grants.c.refused_at.is_not(None),
        grants.c.served_at.is_not(None),
        grants.c.state != GrantState.REAUTHORIZATION_REQUIRED.value,
    )
