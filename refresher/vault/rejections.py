"""The statements that take consumers' word for it that an access token was rejected.

One operation of a transaction, for as many grants as were named; ``Vault`` runs it durably.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from refresher.domain.grants import Answer, Grant, GrantState
from refresher.domain.requests import Rejected, answered, current_of, is_ahead
from refresher.vault.authorizations import write
from refresher.vault.changes import What, note
from refresher.vault.reading import guarded, read_all
from refresher.vault.rows import Transaction, grant_of
from refresher.vault.schema import grants


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch of rejections."""

    changed: list[tuple[Grant, Grant]]
    """The grants that were answered anew, before and after."""
    ahead: set[str]
    """Those of which a version above the vault's was rejected, and none that is current."""


def take(tx: Transaction, rejected: Mapping[str, Rejected]) -> Taken:
    """Answer what consumers rejected, by the name of the grant; unknown names change nothing.

    One read for all of them, and a write for each grant whose answer is a new one.
    """
    known = sa.and_(grants.c.name.in_(list(rejected)), grants.c.state != GrantState.REMOVED.value)
    taken = Taken([], set())
    for before in read_all(tx.connection, tx.aside, known, grant_of):
        word = rejected[before.name]
        version = current_of(before, word)
        if version is None:
            if is_ahead(before, word.versions):
                taken.ahead.add(before.name)
            continue
        after = answered(before, version, tx.now)
        if after == before:
            continue
        values = {"requested_at": after.requested_at}
        if stored := guarded(tx, before.id, partial(write, tx, after, values)):
            if after.rejection is not None and after.rejection.answer is Answer.ACCEPTED:
                note(tx, What.REFRESH_REQUESTED, before)
            taken.changed.append((before, stored))
    return taken
