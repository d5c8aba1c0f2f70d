"""Where messages wait: the vault, or the memory of the process while the vault refuses."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from refresher.domain.notifications import Notification

MOST_IN_MEMORY = 100
"""Messages that wait in memory; of more the oldest go."""


class Outbox(Protocol):
    """Keeps messages until they are taken; what it keeps has an id."""

    async def keep(self, messages: Sequence[Notification]) -> tuple[list[int], int]:
        """Keep MESSAGES, those with an id in place of what that names.

        Returns:
            Their ids, and how many others were dropped for want of room.
        """

    async def first(self, target: int) -> Notification | None:
        """What is due first of TARGET."""

    async def postpone(self, message: Notification, due_at: float) -> bool:
        """Count an attempt of MESSAGE in vain, the next one due at DUE_AT.

        Returns:
            Whether nobody else has done so since MESSAGE was read: then it may be sent.
        """

    async def hasten(self, target: int, due_at: float) -> None:
        """Let everything of TARGET be due at DUE_AT at the latest: it takes messages again."""

    async def drop(self, message: Notification) -> None:
        """Forget MESSAGE."""

    async def drop_beyond(self, targets: int) -> int:
        """Forget what is of no target any more, there being so many; how much that was."""


class Memory:
    """An outbox that lasts as long as the process; its ids are negative."""

    def __init__(self) -> None:
        self._kept: dict[int, Notification] = {}
        self._last = 0

    async def keep(self, messages: Sequence[Notification]) -> tuple[list[int], int]:
        """Keep MESSAGES; see ``Outbox``."""
        ids = []
        for message in messages:
            number = message.id
            if number not in self._kept:
                self._last -= 1
                number = self._last
            self._kept[number] = replace(message, id=number)
            ids.append(number)
        dropped = sorted(self._kept, reverse=True)[: max(len(self._kept) - MOST_IN_MEMORY, 0)]
        for number in dropped:
            del self._kept[number]
        return ids, len(dropped)

    async def first(self, target: int) -> Notification | None:
        """What is due first of TARGET."""
        waiting = (each for each in self._kept.values() if each.target == target)
        return min(waiting, key=lambda each: each.due_at, default=None)

    async def postpone(self, message: Notification, due_at: float) -> bool:
        """Count an attempt in vain."""
        if message.id in self._kept:
            again = replace(message, due_at=due_at, attempts=message.attempts + 1)
            self._kept[message.id] = again
        return True

    async def hasten(self, target: int, due_at: float) -> None:
        """Let everything of TARGET be due at DUE_AT at the latest."""
        for number, each in self._kept.items():
            if each.target == target:
                self._kept[number] = replace(each, due_at=min(each.due_at, due_at))

    async def drop(self, message: Notification) -> None:
        """Forget MESSAGE."""
        self._kept.pop(message.id, None)

    async def drop_beyond(self, targets: int) -> int:
        """Forget what is of no target any more."""
        gone = [number for number, each in self._kept.items() if each.target >= targets]
        for number in gone:
            del self._kept[number]
        return len(gone)
