"""Which grants an order is about, page by page.

Whoever commits an answer waits for a transaction, so one takes a page of them at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa

from refresher.domain.grants import GrantState
from refresher.vault.reading import read_all
from refresher.vault.rows import Transaction
from refresher.vault.schema import grants

T = TypeVar("T")

PAGE = 50
"""Grants changed in one transaction."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which grants are meant: those of these NAMES, or every one of CLIENT, or all."""

    names: Sequence[str] | None = None
    client: str | None = None

    def condition(self) -> sa.ColumnElement[bool]:
        """Which rows they are; removed grants are none."""
        met = [grants.c.state != GrantState.REMOVED.value]
        if self.names is not None:
            met.append(grants.c.name.in_(self.names))
        if self.client is not None:
            met.append(grants.c.client == self.client)
        return sa.and_(*met)


def read_page(
    tx: Transaction,
    condition: sa.ColumnElement[bool],
    after: int,
    build: Callable[[sa.RowMapping], T],
) -> list[T]:
    """What BUILD makes of a page of the rows that meet CONDITION, with ids above AFTER.

    Empty only at the end, whatever is set aside meanwhile.
    """
    page = sa.and_(condition, grants.c.id > after)
    while True:
        known = len(tx.aside.ids)
        found = read_all(tx.connection, tx.aside, page, build, limit=PAGE)
        if found or len(tx.aside.ids) == known:
            return found
