"""How much of each kind is sealed under which key, by the beginnings of what is sealed."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from refresher.domain.keys import Reader, needed_by, unread_by
from refresher.vault import kept
from refresher.vault.keys import FINGERPRINT_KEY
from refresher.vault.rows import CELLS, Transaction
from refresher.vault.schema import client_records as records
from refresher.vault.schema import facts, grants, kept_answers, logins
from refresher.vault.schema import revocations as parked
from refresher.vault.sealing import FIRST_FORMAT, FORMAT, MARK_BYTES, Keyring


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedUnder:
    """What is sealed under one key."""

    key_id: str
    line: int | None
    """Of the key file; None: the key is not in it."""
    seals: bool
    waits: bool
    """It is to seal, and does not yet."""
    unread_by: Sequence[Reader]
    """Other replicas that cannot open what it seals."""
    needed_by: Sequence[Reader]
    """Other replicas that need it for what only they can reach, or still seal with it."""
    counts: dict[str, int]
    """Grants, kept answers and so on: how many of each kind."""
    first_format: int
    """How many of all are of the first format."""

    @property
    def total(self) -> int:
        """How much there is of every kind together."""
        return sum(self.counts.values())

    @property
    def can_go(self) -> bool:
        """Whether its line is needed by nothing that is known of here."""
        is_at_work = self.seals or self.waits or self.total or self.needed_by
        return self.line is not None and not is_at_work


KINDS = (
    *("grants", "unreadable answers", "orphans", "revocations", "rescued answers", "clients"),
    *("logins", "vault"),
)
"""What is counted. The last is the vault's fingerprint key."""


def count(tx: Transaction) -> dict[tuple[str, bytes], int]:
    """How much there is of each kind with each mark, in the tables."""
    cells = [grants.c[name] for name in CELLS]
    marks = sa.union(
        *(sa.select(grants.c.id, mark_of(cell)).where(cell.is_not(None)) for cell in cells)
    ).subquery()
    by_kind = sa.case((kept_answers.c.kind == kept.ORPHAN, "orphans"), else_="unreadable answers")
    # Each once: PostgreSQL groups by what is selected, its parameters included.
    of_answer, of_parked, of_record, of_login = (
        mark_of(table.c.sealed) for table in (kept_answers, parked, records, logins)
    )
    statements = (
        sa.select(sa.literal("grants"), marks.c.mark, sa.func.count()).group_by(marks.c.mark),
        sa.select(by_kind, of_answer, sa.func.count()).group_by(by_kind, of_answer),
        sa.select(sa.literal("revocations"), of_parked, sa.func.count())
        .where(parked.c.sealed.is_not(None))
        .group_by(of_parked),
        sa.select(sa.literal("clients"), of_record, sa.func.count()).group_by(of_record),
        sa.select(sa.literal("logins"), of_login, sa.func.count())
        .where(logins.c.sealed.is_not(None))
        .group_by(of_login),
        sa.select(sa.literal("vault"), mark_of(facts.c.value), sa.literal(1)).where(
            facts.c.name == FINGERPRINT_KEY
        ),
    )
    rows = [row for statement in statements for row in tx.connection.execute(statement)]
    return {(kind, mark): number for kind, mark, number in rows}


def by_key(
    found: dict[tuple[str, bytes], int], keyring: Keyring, others: Sequence[Reader], now: float
) -> list[SealedUnder]:
    """What was FOUND, under the keys of KEYRING in their order and then under unknown ones.

    Args:
        others: the other replicas that share the vault.
    """
    ids = keyring.ids
    unknown = sorted({mark[1:] for _, mark in found} - set(ids))
    return [
        SealedUnder(
            key_id=key.hex(),
            line=ids.index(key) + 1 if key in ids else None,
            seals=key == keyring.sealing,
            waits=key == keyring.wanted,
            unread_by=unread_by(others, FORMAT + key, now),
            needed_by=needed_by(others, key, now),
            counts={
                kind: sum(
                    number for (of, mark), number in found.items() if (of, mark[1:]) == (kind, key)
                )
                for kind in KINDS
            },
            first_format=sum(
                number for (_, mark), number in found.items() if mark == FIRST_FORMAT + key
            ),
        )
        for key in (*ids, *unknown)
    ]


def mark_of(
    column: sa.ColumnElement[bytes], *, length: int = MARK_BYTES
) -> sa.ColumnElement[bytes]:
    """The beginning of what is sealed in COLUMN: its format and its key."""
    return sa.func.substr(column, 1, length, type_=sa.LargeBinary).label("mark")
