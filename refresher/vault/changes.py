"""The vault's log: who changed what, written in the transaction of the change itself.

No secret is in it. What exchanges bring is not there either, unless a grant is lost by it: the
daemon's log has a line for each.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from refresher.domain.grants import Grant
from refresher.vault.prepared import adding_to
from refresher.vault.rows import Run, Transaction
from refresher.vault.schema import changes, grants

MOST_KEPT = 200_000
"""Changes kept at the most: some 30 MB."""

AT_ONCE = 1_000
"""Changes dropped in one transaction."""

LONGEST_DETAIL = 255


class What(StrEnum):
    """Everything that is noted."""

    ADDED = "added"
    SEEDED = "seeded"
    """A refresh token, or a static one, was taken from settings or import."""
    UPDATED = "updated"
    """Its labels or its scope."""
    AUTHORIZED = "authorized"
    """A login brought its tokens."""
    TOKEN_SET = "token_set"
    REFRESH_ORDERED = "refresh_ordered"
    REFRESH_REQUESTED = "refresh_requested"
    """A consumer was refused with its access token."""
    PAUSED = "paused"
    RESUMED = "resumed"
    EXPORTED = "exported"
    """Its refresh token was handed out."""
    REVOKED = "revoked"
    REMOVED = "removed"
    LOST = "lost"
    """Its server has finally refused its refresh token."""
    ANSWER_ORPHANED = "answer_orphaned"
    ANSWER_ADOPTED = "answer_adopted"
    ANSWER_DROPPED = "answer_dropped"
    CLIENT_ADDED = "client_added"
    CLIENT_CHANGED = "client_changed"
    CLIENT_REMOVED = "client_removed"
    DISCOVERED = "discovered"
    """What the server of a client tells of itself counts from now on."""
    REGISTERED = "registered"
    """A server has made the client."""
    KEY_ADDED = "key_added"
    RESTORED = "restored"
    """The vault is an older one: a copy, or a file that was put back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One line of the log."""

    id: int
    at: float
    by: str
    """Kind of actor; see ``acting``."""
    uid: int | None
    pid: int | None
    what: str
    grant: str | None
    """None: of a client's grants as many as COUNT says, or of none."""
    client: str | None
    count: int | None
    detail: str | None


class Changes:
    """The log of an open vault; every method is one transaction.

    Each raises ``VaultUnavailable`` when the vault refuses.
    """

    def __init__(self, *, write: Run, read: Run) -> None:
        self._write, self._read = write, read

    async def note_clients(self, changed: Sequence[tuple[What, str]]) -> None:
        """Note what became of clients, by name."""

        def write(tx: Transaction) -> None:
            for what, client in changed:
                note(tx, what, client=client)

        await self._write(write)

    async def note_key(self, key_id: str) -> None:
        """Note that a new vault key seals."""
        await self._write(lambda tx: note(tx, What.KEY_ADDED, detail=key_id))

    async def page(self, *, after: int, limit: int, grant: str | None) -> list[Change]:
        """Up to LIMIT changes, the newest first.

        Args:
            after: goes on behind the change of this id; 0 begins with the newest.
            grant: those of the grant of this name, and of all grants of its client.
        """
        return await self._read(lambda tx: read_page(tx, after, limit, grant))

    async def drop_old(self, keep: float) -> int:
        """Drop some of what is older than KEEP seconds, or too much; how many were."""
        if not await self._read(lambda tx: bool(_old(tx, keep))):
            return 0
        return await self._write(lambda tx: drop_old(tx, keep))


def note(
    tx: Transaction,
    what: What,
    grant: Grant | None = None,
    *,
    name: str | None = None,
    client: str | None = None,
    count: int | None = None,
    detail: str | None = None,
) -> None:
    """Note that for whom TX works has done WHAT."""
    row = _noted(tx, what) | {
        "grant_name": name if grant is None else grant.name,
        "client": client if grant is None else grant.client,
        "count": count,
        "detail": None if detail is None else detail[:LONGEST_DETAIL],
    }
    tx.connection.execute(sa.insert(changes), row)


def note_each(tx: Transaction, what: What, many: Iterable[tuple[str, str | None]]) -> None:
    """Note the same of MANY grants, by their names and clients, in one statement."""
    row = _noted(tx, what)
    rows = [row | {"grant_name": name, "client": client} for name, client in many]
    _NOTE.run(tx.connection, rows)


_NOTE = adding_to(changes)


def _noted(tx: Transaction, what: What) -> dict[str, object]:
    return {
        "at": tx.now,
        "actor": tx.by.kind,
        "uid": tx.by.uid,
        "pid": tx.by.pid,
        "what": what.value,
    }


def read_page(tx: Transaction, after: int, limit: int, grant: str | None) -> list[Change]:
    """See ``Changes.page``."""
    statement = sa.select(changes).order_by(changes.c.id.desc()).limit(limit)
    if after:
        statement = statement.where(changes.c.id < after)
    if grant is not None:
        client = sa.select(grants.c.client).where(grants.c.name == grant).scalar_subquery()
        of_all = sa.and_(changes.c.grant_name.is_(None), changes.c.client == client)
        statement = statement.where(sa.or_(changes.c.grant_name == grant, of_all))
    return [
        Change(
            id=row["id"],
            at=row["at"],
            by=row["actor"],
            uid=row["uid"],
            pid=row["pid"],
            what=row["what"],
            grant=row["grant_name"],
            client=row["client"],
            count=row["count"],
            detail=row["detail"],
        )
        for row in tx.connection.execute(statement).mappings()
    ]


def drop_old(tx: Transaction, keep: float) -> int:
    """See ``Changes.drop_old``."""
    old = _old(tx, keep)
    tx.connection.execute(sa.delete(changes).where(changes.c.id.in_(old)))
    return len(old)


def _old(tx: Transaction, keep: float) -> list[int]:
    """Some of the changes to drop, found among the first by their ids: no index holds instants."""
    newest = tx.connection.scalar(sa.select(sa.func.max(changes.c.id))) or 0
    first = tx.connection.execute(
        sa.select(changes.c.id, changes.c.at).order_by(changes.c.id).limit(AT_ONCE)
    )
    return [number for number, at in first if at < tx.now - keep or number <= newest - MOST_KEPT]
