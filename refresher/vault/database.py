"""The SQL engine and its group commit.

Statements run in two threads of their own, one for writes and one for reads, so that the
event loop never waits for a disk. Writes that gather while one commit is under way share
the next.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import anyio
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from refresher.errors import VaultUnavailable
from refresher.vault.batches import (
    Kind,
    Looks,
    Settled,
    Single,
    Waiting,
    run_each_alone,
    run_together,
)
from refresher.vault.outage import Outage
from refresher.vault.refusals import is_of_one_row, is_passing, unavailable
from refresher.vault.threads import Thread

T = TypeVar("T")
Item = TypeVar("Item")

LARGEST_BATCH = 256
"""Writes that share one commit at the most: bounds how long the first one waits."""

HANGS_AFTER = 2.5
"""Seconds a write waits before the vault counts as refusing."""

CLOSED_WITHIN = 5.0
"""Seconds to wait at the end for a statement under way; a disk that hangs longer keeps it."""

OTHERS_WRITE = "others_write"
"""Option of a connection: other processes write to its database too, so rows that are to be
changed are locked when they are read."""

TRIES = 3
"""How often a transaction is run that others were in the way of, or that found its connection
lost, before it counts as refused."""


class Database:
    """Runs operations (functions of a connection) durably, many to a commit.

    Args:
        open_another: opens one more connection, for reads that take long.
        size: how many bytes it takes, asked on such a connection.
        is_shared: other processes write to it too.
    """

    def __init__(
        self,
        writer: Engine,
        reader: Engine,
        *,
        write_thread: Thread,
        read_thread: Thread,
        open_another: Callable[[], Engine] | None = None,
        size: Callable[[Connection], int] = lambda _: 0,
        is_shared: bool = False,
    ) -> None:
        self._writer, self._reader = writer, reader
        self.open_another, self.size = open_another or (lambda: reader), size
        self.is_shared = is_shared
        self._write_thread, self._read_thread = write_thread, read_thread
        self._waiting: list[Waiting[Any]] = []
        self._under_way: list[Waiting[Any]] = []
        self._is_called = False
        """The commit of what waits is about to begin."""
        self._to_read: list[Waiting[Any]] = []
        self._is_reading = False
        """What waits to be read together has a read before it, or one that is about to begin."""
        self._until_hanging: asyncio.TimerHandle | None = None
        self._is_abandoned = False
        self.outage = Outage()

    async def write(self, operation: Callable[[Connection], T]) -> T:
        """Run OPERATION in a transaction and return once it is durable.

        Cancellation waits: a write under way is never half known. OPERATION may be run again,
        after all that it has written was undone: whatever else it does has to bear that.

        Raises:
            VaultUnavailable: nothing of it was written, or nobody knows whether it was.
            Exception: raised by OPERATION itself, which is rolled back alone.
        """
        mine = Waiting(Single(operation), None)
        with anyio.CancelScope(shield=True):
            await self._settled(mine)
        return mine.result()

    async def write_with_others(self, kind: Kind[Item, T], item: Item) -> T:
        """The same of what KIND can do at once for many items.

        Where something in the same commit raises, or it wants it, each is done alone. Whoever
        calls this is shielded from cancellation already.
        """
        mine = Waiting(kind, item)
        await self._settled(mine)
        return mine.result()

    async def _settled(self, mine: Waiting[Any]) -> None:
        if self._is_abandoned:
            raise _abandoned()
        self._waiting.append(mine)
        if not self._is_called:
            # Answers that came together go together: after whatever else is ready by now.
            self._is_called = True
            asyncio.get_running_loop().call_soon(self._commit_next)
        await mine.settled

    async def read(self, operation: Callable[[Connection], T]) -> T:
        """Run OPERATION against the last committed state.

        Raises:
            VaultUnavailable: the vault cannot be read now.
        """
        mine = Settled[T]()
        if self._is_abandoned:
            raise _abandoned()
        self._read_thread.submit(lambda: self._look(operation, mine), mine.settle)
        await mine.settled
        return mine.result()

    async def read_with_others(
        self, together: Callable[[Connection, Sequence[Item]], Sequence[T]], item: Item
    ) -> T:
        """The same of what TOGETHER reads at once for all who ask for it meanwhile.

        Nobody gets what was read before it asked.
        """
        mine = Waiting(Looks(together), item)
        if self._is_abandoned:
            raise _abandoned()
        self._to_read.append(mine)
        if not self._is_reading:
            self._is_reading = True
            asyncio.get_running_loop().call_soon(self._read_next)
        await mine.settled
        return mine.result()

    async def on_connection(self, work: Callable[[Any], T]) -> T:
        """Run WORK on the driver's open connection that writes, outside of transactions.

        Everything handed over before is written first.

        Raises:
            VaultUnavailable: the database or the disk refuses.
        """
        with suppress(VaultUnavailable):  # what refuses a write may still be read
            await self.write(lambda _: None)
        done = Settled[T]()

        def run() -> None:
            pooled = self._writer.raw_connection()
            try:
                done.value = work(pooled.driver_connection)
                done.is_done = True
            except Exception as error:  # noqa: BLE001  it is raised where it was asked for
                done.error = error
            finally:
                pooled.close()

        self._write_thread.submit(run, done.settle)
        await done.settled
        return done.result()

    def abandon(self) -> None:
        """Let nobody wait any longer: the process ends, and the disk may hang for ever.

        What is under way may still take effect, as with any process that dies.
        """
        self._is_abandoned = True
        for waiting in (*self._under_way, *self._waiting):
            waiting.error = _abandoned()
            waiting.settle(None)
        self._waiting.clear()

    def close(self) -> bool:
        """Close both engines; whether that was possible.

        A connection in which a thread hangs cannot be closed: it ends with the process.
        """
        ended = [thread.end(CLOSED_WITHIN) for thread in (self._write_thread, self._read_thread)]
        if not all(ended):
            return False
        self._reader.dispose()
        self._writer.dispose()
        return True

    def _commit_next(self) -> None:
        """Let the thread commit what has gathered, unless it is at work."""
        self._is_called = False
        if self._under_way or not self._waiting:
            return
        if self._is_abandoned:
            self.abandon()
            return
        batch = self._under_way = self._waiting[:LARGEST_BATCH]
        del self._waiting[:LARGEST_BATCH]
        loop = asyncio.get_running_loop()
        # The oldest waits longest; one that waits for its second commit has been told of.
        hangs_at = max(batch[0].since, loop.time() - HANGS_AFTER / 2) + HANGS_AFTER
        self._until_hanging = loop.call_at(hangs_at, self._hangs)

        def ended(error: BaseException | None) -> None:
            self._under_way = []
            if self._until_hanging is not None:
                self._until_hanging.cancel()
            if error is None and any(waiting.is_done for waiting in batch):
                self.outage.over(self)
            # First whoever waits for the next commit, then those who may add to the one after.
            self._commit_next()
            for waiting in batch:
                waiting.settle(error)

        try:
            self._write_thread.submit(lambda: self._commit(batch), ended)
        except Exception as error:  # noqa: BLE001  everyone in it must hear of the failure
            ended(error)

    def _read_next(self) -> None:
        """Let the thread read for all who wait for it."""
        batch, self._to_read = self._to_read, []
        self._is_reading = bool(batch)
        if not batch:
            return
        read = Settled[None]()

        def ended(error: BaseException | None) -> None:
            self._read_next()
            for waiting in batch:
                waiting.is_done, waiting.error = read.is_done, read.error
                waiting.settle(error)

        try:
            self._read_thread.submit(
                lambda: self._look(lambda c: run_together(c, batch), read), ended
            )
        except Exception as error:  # noqa: BLE001  everyone in it must hear of the failure
            ended(error)

    def _hangs(self) -> None:
        self.outage.met(self, f"the vault has not answered for {HANGS_AFTER:g} s")

    def _commit(self, batch: list[Waiting[Any]]) -> None:
        """Commit BATCH; one write that spoils it for the others is committed apart."""
        try:
            try:
                self._transact(lambda connection: run_together(connection, batch))
            except DBAPIError:
                raise
            except Exception:  # noqa: BLE001  who has raised it hears of it in the second run
                self._transact(lambda connection: run_each_alone(connection, batch))
        except DBAPIError as error:
            if len(batch) > 1 and is_of_one_row(error):
                for waiting in batch:
                    waiting.error = None
                    self._commit([waiting])
                return
            for waiting in batch:
                waiting.error = unavailable(error)
                waiting.error.__cause__ = error
            return
        for waiting in batch:
            waiting.is_done = waiting.error is None

    def _transact(self, work: Callable[[Connection], None]) -> None:
        """Do WORK in a transaction, again where it was undone for what another try may find gone.

        What failed before its COMMIT was sent has been undone for certain.
        """
        for tries in range(1, TRIES + 1):
            is_sent = False
            try:
                with self._writer.begin() as connection:
                    work(connection)
                    is_sent = True
            except DBAPIError as error:
                if is_sent or tries == TRIES or not is_passing(error):
                    raise
            else:
                return

    def _look(self, operation: Callable[[Connection], T], done: Settled[T]) -> None:
        for tries in range(1, TRIES + 1):
            try:
                with self._reader.connect() as connection:
                    done.value = operation(connection)
            except DBAPIError as error:
                if tries < TRIES and is_passing(error):
                    continue
                done.error = unavailable(error)
                done.error.__cause__ = error
            except Exception as error:  # noqa: BLE001  it is raised where it was asked for
                done.error = error
            else:
                done.is_done = True
            return


def others_write(connection: Connection) -> bool:
    """Whether CONNECTION writes where other processes write too."""
    return bool(connection.get_execution_options().get(OTHERS_WRITE))


def _abandoned() -> VaultUnavailable:
    return VaultUnavailable("the process ends while the vault does not answer")
