"""Operations on their way through the vault's threads, and how a batch of them is run."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from refresher.errors import VaultUnavailable

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)


class Settled(Generic[T]):
    """What comes of something that a thread does."""

    __slots__ = ("error", "is_done", "settled", "since", "value")

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.settled: asyncio.Future[None] = loop.create_future()
        self.since = loop.time()
        self.is_done = False
        """Whether it took effect: of a write, whether its commit has returned."""
        self.error: Exception | None = None
        self.value: T | None = None

    def settle(self, error: BaseException | None) -> None:
        """Let its caller know; whatever has not been done by now has failed with ERROR."""
        if not self.is_done and self.error is None:
            reason = "no answer" if error is None else type(error).__name__
            self.error = VaultUnavailable(f"the vault's thread failed ({reason})")
            self.error.__cause__ = error
        if not self.settled.done():
            self.settled.set_result(None)

    def result(self) -> T:
        """What came of it."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # None only where T allows it


class Again(Exception):
    """Raised by what was to be done for many at once: each is to be done alone instead."""


class Kind(Protocol[Item_contra, T_co]):
    """What can be done for many items in a row at once."""

    def together(self, connection: Connection, items: Sequence[Item_contra]) -> Sequence[T_co]:
        """Do it for all of ITEMS.

        Raises:
            Again: each is to be done alone.
        """

    def alone(self, connection: Connection, item: Item_contra) -> T_co:
        """Do it for ITEM, whatever the trouble; run in a savepoint after a refusal."""


class Single(Generic[T]):
    """An operation that is like no other."""

    __slots__ = ("_operation",)

    def __init__(self, operation: Callable[[Connection], T]) -> None:
        self._operation = operation

    def together(self, connection: Connection, items: Sequence[None]) -> Sequence[T]:
        return [self._operation(connection) for _ in items]

    def alone(self, connection: Connection, _: None) -> T:
        return self._operation(connection)


@dataclass(frozen=True, slots=True)
class Looks(Generic[Item, T]):
    """Reads, which are alike if the same function does them."""

    read: Callable[[Connection, Sequence[Item]], Sequence[T]]

    def together(self, connection: Connection, items: Sequence[Item]) -> Sequence[T]:
        return self.read(connection, items)

    def alone(self, connection: Connection, item: Item) -> T:
        return self.read(connection, [item])[0]


class Waiting(Settled[T]):
    """One operation on its way through a thread: what is done, and for which item."""

    __slots__ = ("item", "kind")

    def __init__(self, kind: Kind[Any, T], item: object) -> None:
        super().__init__()
        self.kind, self.item = kind, item


def run_together(connection: Connection, batch: list[Waiting[Any]]) -> None:
    """Run BATCH in its order, as few statements as that takes; the first refusal ends it."""
    for _, row in groupby(batch, lambda waiting: waiting.kind):
        alike = list(row)
        values = alike[0].kind.together(connection, [one.item for one in alike])
        for one, value in zip(alike, values, strict=True):
            one.value = value


def run_each_alone(connection: Connection, batch: Sequence[Waiting[Any]]) -> None:
    """The same after a refusal: what one operation raises undoes nothing of the others."""
    for waiting in batch:
        waiting.error = None
        _run_alone(connection, waiting)


def _run_alone(connection: Connection, waiting: Waiting[Any]) -> None:
    """Run one operation in a savepoint, so that its refusal or its bug undoes nothing else."""
    savepoint = connection.begin_nested()
    try:
        waiting.value = waiting.kind.alone(connection, waiting.item)
    except DBAPIError:
        # The database refuses and has often rolled back by itself, the savepoint included.
        raise
    except Exception as error:  # noqa: BLE001  supervision: it is raised where it was asked for
        savepoint.rollback()
        waiting.error = error
    else:
        savepoint.commit()
