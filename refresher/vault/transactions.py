"""How an operation of the vault becomes a transaction: with its cipher, instant and clock.

Operations run in the order in which they are handed over, and what follows a step of the
wall clock hangs on that. Whoever reads the clock says of a step before it can hand over
anything of the new time, so the first operation after it makes the step for all that is
stored, and nothing of the new time is there yet that it could move.
"""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.engine import Connection

from refresher.clock import Clock
from refresher.vault import clock_steps
from refresher.vault.aside import Aside
from refresher.vault.database import Database
from refresher.vault.rows import Sealer, Transaction
from refresher.vault.sqlite.files import Files

T = TypeVar("T")


class Transactions:
    """Runs operations on one database.

    Args:
        opening: names this opening of the vault.
        clock: what everything in the vault is dated by.
    """

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        aside: Aside,
        files: Files,
        *,
        opening: str,
        clock: Clock,
    ) -> None:
        self._database, self._sealer, self._aside = database, sealer, aside
        self._files, self._opening, self._clock = files, opening, clock
        self._steps: list[float] = []
        self._followed = 0
        """How many of them the database is known to have made."""

    @property
    def set_back(self) -> float:
        """Seconds that the wall clock was set back by since the vault was opened, negative.

        What was read before a step and is written after it is moved by the difference.
        """
        return sum(self._steps)

    def clock_set_back(self, offset: float) -> None:
        """The wall clock was set back by OFFSET seconds, which is negative, just now."""
        self._steps.append(offset)

    async def write(self, operation: Callable[[Transaction], T], *, now: float | None = None) -> T:
        """Run OPERATION durably, dated now.

        Args:
            now: read right before; None reads the clock.

        Raises:
            VaultUnavailable: nothing of it was written, or nobody knows whether it was.
        """
        self._files.require_vault()
        now = self._clock.now() if now is None else now
        steps = tuple(self._steps)

        def run(connection: Connection) -> T:
            tx = self._transaction(connection, now)
            if len(steps) > self._followed:
                clock_steps.follow(tx, self._opening, steps, self._followed)
            return operation(tx)

        done = await self._database.write(run)
        self._followed = max(self._followed, len(steps))
        return done

    async def read(self, operation: Callable[[Transaction], T]) -> T:
        """Run OPERATION, which writes nothing, against the last committed state.

        Raises:
            VaultUnavailable: the vault cannot be read now.
        """
        now = self._clock.now()
        return await self._database.read(lambda c: operation(self._transaction(c, now)))

    def _transaction(self, connection: Connection, now: float) -> Transaction:
        return Transaction(connection, self._sealer, now, self._aside)
