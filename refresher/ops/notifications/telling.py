"""Tells people what happens: hears events, keeps messages, and sends each until it is taken."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import anyio
from anyio.abc import TaskGroup

from refresher.clock import Clock
from refresher.domain.notifications import Kind, Notification, Target
from refresher.errors import VaultUnavailable
from refresher.logs import Event, emit
from refresher.ops.notifications.bursts import LONGEST, QUIET, Burst, Bursts
from refresher.ops.notifications.outbox import Memory, Outbox
from refresher.ops.notifications.sending import send

LOOK = 1.0
"""Seconds between two looks at what has happened: what a kill can cost."""

MARGIN = 2 * LOOK
"""Seconds after the end of its burst at which a message is sent: its last event is in it."""

IDLE = 60.0
"""Seconds between two looks at what waits, where nobody says that something does."""

FIRST_WAIT, LONGEST_WAIT = 5.0, 3_600.0
"""Seconds until the second attempt, twice as long each time, up to an hour."""

KEPT_FOR = 3 * 86_400.0
"""Seconds for which a message is tried; later it is no news, and its place is wanted."""


class Telling:
    """Tells the TARGETS of the settings.

    Args:
        outbox: where messages are kept; while it refuses, new ones are kept in memory. So is
            always what says that the vault refuses.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        targets: Sequence[Target],
        clock: Clock,
        quiet: float = QUIET,
        longest: float = LONGEST,
    ) -> None:
        self._outbox, self._memory = outbox, Memory()
        self._targets = list(targets)
        self._clock = clock
        self._bursts = Bursts(clock, quiet=quiet, longest=longest)
        self._news = anyio.Event()
        self._is_swept = False
        """Nothing waits for a target that is not there."""
        self._served: set[int] = set()
        """Targets, by place, that have a task."""
        self._failing: set[int] = set()
        self._taken: set[int] = set()
        """Messages that were taken and that the vault would not forget."""

    def hear(self, event: Event, fields: Mapping[str, object]) -> None:
        """Take EVENT, in whatever thread it happens, if somebody is to be told of it."""
        if self._targets:
            self._bursts.hear(event, fields)

    def take_over(self, targets: Sequence[Target]) -> None:
        """Tell TARGETS from now on; what waits goes to whoever has its place now."""
        self._targets = list(targets)
        self._failing.clear()
        self._is_swept = False
        self._tell_news()

    async def run(self) -> None:
        """Keep and send, for ever."""
        self._served.clear()
        self._is_swept = False
        async with anyio.create_task_group() as tasks:
            while True:
                news = self._news
                await self._serve_all(tasks)
                await self.keep()
                if self._targets:
                    await anyio.sleep(LOOK)
                else:
                    await news.wait()

    async def keep(self) -> None:
        """Keep a message of everything that has happened so far."""
        messages: list[tuple[Burst, Notification]] = []
        for burst, closes_in, body in self._bursts.take_changed():
            for place, target in enumerate(self._targets):
                if burst.kind in target.kinds:
                    message = Notification(
                        id=burst.kept.get(place, 0),
                        target=place,
                        made_at=burst.began_at,
                        due_at=self._clock.now() + closes_in + MARGIN,
                        body=body,
                    )
                    messages.append((burst, message))
        if not messages:
            return
        of_vault = [each for each in messages if _may_be_in_vault(*each)]
        in_memory = [each for each in messages if each not in of_vault]
        try:
            await self._keep(self._outbox, of_vault)
        except VaultUnavailable:
            in_memory += [each for each in of_vault if not each[1].id]
            for burst, message in of_vault:
                burst.is_changed |= message.id > 0
        await self._keep(self._memory, in_memory)
        self._tell_news()

    async def _keep(self, outbox: Outbox, messages: Sequence[tuple[Burst, Notification]]) -> None:
        if not messages:
            return
        ids, dropped = await outbox.keep([message for _, message in messages])
        for (burst, message), number in zip(messages, ids, strict=True):
            burst.kept[message.target] = number
        _tell_dropped(dropped, "there is no room for more")

    async def _serve_all(self, tasks: TaskGroup) -> None:
        """See that every target has a task, and that nothing waits for one that has gone."""
        if self._is_swept:
            return
        with suppress(VaultUnavailable):
            gone = await self._memory.drop_beyond(len(self._targets))
            gone += await self._outbox.drop_beyond(len(self._targets))
            _tell_dropped(gone, "its [[notify]] has left the settings")
            self._is_swept = True
        for place in range(len(self._targets)):
            if place not in self._served:
                self._served.add(place)
                tasks.start_soon(self._serve, place)

    async def _serve(self, place: int) -> None:
        """Send what waits for the target in PLACE, one message at a time, while it has one."""
        while place < len(self._targets):
            news = self._news
            with anyio.move_on_after(await self.send_next(place)):
                await news.wait()
        self._served.discard(place)

    async def send_next(self, place: int) -> float:
        """Send one message that is due to the target in PLACE; seconds until the next look."""
        try:
            waiting = await self._first(place)
            if waiting is None:
                return IDLE
            wait = waiting.due_at - self._clock.now()
            if wait <= 0:
                await self._deliver(self._targets[place], waiting)
            return min(max(wait, 0.0), IDLE)
        except VaultUnavailable:
            return LOOK

    async def _first(self, place: int) -> Notification | None:
        """What is due first; while the vault cannot be read, of what is in memory."""
        waiting = await self._memory.first(place)
        try:
            kept = await self._outbox.first(place)
        except VaultUnavailable:
            if waiting is None:
                raise
            return waiting
        found = [each for each in (waiting, kept) if each is not None]
        return min(found, key=lambda each: each.due_at, default=None)

    async def _deliver(self, target: Target, message: Notification) -> None:
        """Try MESSAGE once; the next attempt is written down before it is sent."""
        box: Outbox = self._memory if message.id < 0 else self._outbox
        now = self._clock.now()
        if message.id in self._taken:
            await self._forget(box, message)
            return
        if now - message.made_at > KEPT_FOR:
            await box.drop(message)
            _tell_dropped(1, "nobody has taken it for three days", target)
            return
        wait = min(FIRST_WAIT * 2.0 ** min(message.attempts, 16), LONGEST_WAIT)
        due_at, attempts = now + wait * (0.75 + self._clock.draw() / 2), message.attempts + 1
        if not await box.postpone(message, due_at):
            return
        fault = await send(target, message, now)
        if fault is not None:
            if message.target not in self._failing:
                self._failing.add(message.target)
                emit(
                    Event.NOTIFICATION_FAILED,
                    setting=target.setting,
                    error=fault,
                    attempts=attempts,
                    next_attempt_at=due_at,
                )
            return
        self._taken.add(message.id)
        emit(Event.NOTIFICATION_SENT, setting=target.setting, attempts=attempts)
        await self._forget(box, message)
        if message.target in self._failing:
            self._failing.discard(message.target)
            await box.hasten(message.target, now)

    async def _forget(self, box: Outbox, message: Notification) -> None:
        await box.drop(message)
        self._taken.discard(message.id)

    def _tell_news(self) -> None:
        self._news.set()
        self._news = anyio.Event()


def _may_be_in_vault(burst: Burst, message: Notification) -> bool:
    return message.id >= 0 and burst.kind is not Kind.VAULT_REFUSED


def _tell_dropped(count: int, reason: str, target: Target | None = None) -> None:
    if count:
        named = {} if target is None else {"setting": target.setting}
        emit(Event.NOTIFICATION_DROPPED, count=count, reason=reason, **named)
