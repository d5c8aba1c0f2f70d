"""Notifications that wait in the vault until somebody has taken them."""

from collections.abc import Sequence

import sqlalchemy as sa

from refresher.domain.notifications import Notification
from refresher.vault.rows import Run, Transaction
from refresher.vault.schema import notifications

MOST = 1_000
"""Messages kept for one target; of more the oldest go."""


class VaultOutbox:
    """The outbox of an open vault; every method is one transaction.

    Each raises ``VaultUnavailable`` when the vault refuses.
    """

    def __init__(self, *, write: Run, read: Run) -> None:
        self._write, self._read = write, read

    async def keep(self, messages: Sequence[Notification]) -> tuple[list[int], int]:
        """Keep MESSAGES; their ids, and how many older ones had to go."""
        return await self._write(lambda tx: keep(tx, messages))

    async def first(self, target: int) -> Notification | None:
        """What is due first of TARGET."""
        return await self._read(lambda tx: first(tx, target))

    async def postpone(self, message: Notification, due_at: float) -> bool:
        """Count an attempt in vain, the next one due at DUE_AT; False: another replica did."""
        same = sa.and_(
            notifications.c.id == message.id, notifications.c.attempts == message.attempts
        )
        change = sa.update(notifications).where(same)
        change = change.values(due_at=due_at, attempts=message.attempts + 1)
        return await self._write(lambda tx: tx.connection.execute(change).rowcount == 1)

    async def hasten(self, target: int, due_at: float) -> None:
        """Let everything of TARGET be due at DUE_AT at the latest."""
        late = sa.and_(notifications.c.target == target, notifications.c.due_at > due_at)
        change = sa.update(notifications).where(late).values(due_at=due_at)
        await self._write(lambda tx: tx.connection.execute(change))

    async def drop(self, message: Notification) -> None:
        """Forget MESSAGE."""
        gone = sa.delete(notifications).where(notifications.c.id == message.id)
        await self._write(lambda tx: tx.connection.execute(gone))

    async def drop_beyond(self, targets: int) -> int:
        """Forget what is of no target, there being so many; how much that was."""
        gone = sa.delete(notifications).where(notifications.c.target >= targets)
        return await self._write(lambda tx: tx.connection.execute(gone).rowcount)


def keep(tx: Transaction, messages: Sequence[Notification]) -> tuple[list[int], int]:
    """Write MESSAGES, those with an id in place of what that names, if it still waits."""
    ids = []
    for message in messages:
        values = {
            "target": message.target,
            "made_at": message.made_at,
            "due_at": message.due_at,
            "attempts": message.attempts,
            "body": message.body,
        }
        same = sa.and_(notifications.c.id == message.id, notifications.c.made_at == message.made_at)
        change = sa.update(notifications).where(same).values(values)
        if message.id and tx.connection.execute(change).rowcount:
            ids.append(message.id)
            continue
        added = tx.connection.execute(sa.insert(notifications).values(values))
        assert added.inserted_primary_key is not None
        ids.append(added.inserted_primary_key[0])
    return ids, sum(_make_room(tx, target) for target in {each.target for each in messages})


def first(tx: Transaction, target: int) -> Notification | None:
    """What is due first of TARGET."""
    statement = (
        sa.select(notifications)
        .where(notifications.c.target == target)
        .order_by(notifications.c.due_at, notifications.c.id)
        .limit(1)
    )
    row = tx.connection.execute(statement).mappings().first()
    return None if row is None else Notification(**row)


def _make_room(tx: Transaction, target: int) -> int:
    newest = (
        sa.select(notifications.c.id)
        .where(notifications.c.target == target)
        .order_by(notifications.c.id.desc())
        .limit(MOST)
    )
    older = sa.and_(notifications.c.target == target, notifications.c.id.not_in(newest))
    return tx.connection.execute(sa.delete(notifications).where(older)).rowcount
