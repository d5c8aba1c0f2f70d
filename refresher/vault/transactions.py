"""How an operation of the vault becomes a transaction: with its cipher, instant and clock.

Operations run in the order in which they are handed over, and what follows a step of the
wall clock hangs on that. Whoever reads the clock says of a step before it can hand over
anything of the new time, so the first operation after it makes the step for all that is
stored, and nothing of the new time is there yet that it could move.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy.engine import Connection

from refresher.acting import DAEMON, Actor, who
from refresher.clock import Clock
from refresher.vault import clock_steps
from refresher.vault.aside import Aside
from refresher.vault.database import Database
from refresher.vault.rows import Sealer, Transaction
from refresher.vault.sqlite.files import Files

T = TypeVar("T")
Item = TypeVar("Item")


Work = tuple[Transaction, Item]
"""One of what is done at once: each with an instant of its own."""


class Transactions:
    """Runs operations on one database.

    Args:
        following: how far this opening of the vault follows the wall clock.
        clock: what everything in the vault is dated by.
    """

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        aside: Aside,
        files: Files,
        *,
        following: clock_steps.Following,
        clock: Clock,
    ) -> None:
        self._database, self._sealer, self._aside = database, sealer, aside
        self._files, self._following, self._clock = files, following, clock
        self._kinds: dict[object, _Kind[Any, Any]] = {}
        self.disturbances = 0
        """Raised whenever something is handed over that may disturb an exchange that has been
        claimed, and again when it has left."""

    async def write(
        self,
        operation: Callable[[Transaction], T],
        *,
        now: float | None = None,
        disturbs: bool = True,
    ) -> T:
        """Run OPERATION durably, dated now.

        Args:
            now: read right before; None reads the clock.
            disturbs: it may do something to a grant whose exchange has been claimed.

        Raises:
            VaultUnavailable: nothing of it was written, or nobody knows whether it was.
        """
        self._files.require_vault()
        now = self._clock.now() if now is None else now
        steps, by = self._following.steps, who()

        def run(connection: Connection) -> T:
            tx = self._transaction(connection, now, by)
            self._following.follow(tx, steps)
            return operation(tx)

        self.disturbances += disturbs
        try:
            done = await self._database.write(run)
        finally:
            self.disturbances += disturbs
        self._following.has_made(steps)
        return done

    async def write_with_others(
        self,
        together: Callable[[Sequence[Work[Item]]], Sequence[T]],
        alone: Callable[[Transaction, Item], T],
        item: Item,
        now: float,
    ) -> T:
        """The same of what TOGETHER does at once for many; see ``Database``.

        It disturbs no grant whose exchange has been claimed, but the one that it is about.
        """
        self._files.require_vault()
        steps = self._following.steps
        kind = self._kinds.get(together)
        if kind is None or kind.steps != steps:
            kind = self._kinds[together] = _Kind(self, together, alone, steps)
        done: T = await self._database.write_with_others(kind, (now, item))
        self._following.has_made(steps)
        return done

    async def read(self, operation: Callable[[Transaction], T]) -> T:
        """Run OPERATION, which writes nothing, against the last committed state.

        Raises:
            VaultUnavailable: the vault cannot be read now.
        """
        now = self._clock.now()
        return await self._database.read(lambda c: operation(self._transaction(c, now)))

    def dated(
        self, connection: Connection, items: Sequence[tuple[float, Item]], steps: int
    ) -> list[Work[Item]]:
        """ITEMS, each with its transaction; the first STEPS of the clock are followed."""
        work = [(self._transaction(connection, at), one) for at, one in items]
        self._following.follow(work[0][0], steps)
        return work

    def _transaction(self, connection: Connection, now: float, by: Actor = DAEMON) -> Transaction:
        return Transaction(connection, self._sealer, now, self._aside, by)


class _Kind(Generic[Item, T]):
    """What is done for many at once, after the same steps of the clock."""

    def __init__(
        self,
        transactions: Transactions,
        together: Callable[[Sequence[Work[Item]]], Sequence[T]],
        alone: Callable[[Transaction, Item], T],
        steps: int,
    ) -> None:
        self._transactions, self._together, self._alone = transactions, together, alone
        self.steps = steps

    def together(self, connection: Connection, items: Sequence[tuple[float, Item]]) -> Sequence[T]:
        return self._together(self._transactions.dated(connection, items, self.steps))

    def alone(self, connection: Connection, item: tuple[float, Item]) -> T:
        [(tx, one)] = self._transactions.dated(connection, [item], self.steps)
        return self._alone(tx, one)
