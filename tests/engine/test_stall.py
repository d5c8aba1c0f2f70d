"""A daemon whose scheduler stands still ends itself, once that can cost nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import anyio.lowlevel
import pytest

from refresher.app.stall import LOOK_EVERY, STALLED_AFTER, end_when_stalled
from refresher.logs import Event
from tests.engine.world import Lines
from tests.vault.world import FakeClock


@dataclass
class Watched:
    """A scheduler as the guard sees it, and how often it was ended."""

    clock: FakeClock
    turned_at: float = 0.0
    at_risk: int = 0
    ended: int = 0

    def end(self) -> None:
        self.ended += 1

    async def pass_time(self, seconds: float, *, step: float = LOOK_EVERY) -> None:
        """Let SECONDS pass, with a look at every STEP."""
        for _ in range(round(seconds / step)):
            self.clock.move(step)
            for _ in range(10):
                await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def guarded(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    """A guard that looks whenever the loop turns and its clock has moved."""
    watched = Watched(FakeClock())
    looked_at = 0.0

    async def sleep(_: float) -> None:
        nonlocal looked_at
        while watched.clock.monotonic() - looked_at < LOOK_EVERY:
            await anyio.lowlevel.checkpoint()
        looked_at = watched.clock.monotonic()

    monkeypatch.setattr(anyio, "sleep", sleep)
    async with anyio.create_task_group() as tasks:

        async def guard() -> None:
            await end_when_stalled(
                lambda: watched.turned_at,
                lambda: watched.at_risk,
                watched.clock,
                end=watched.end,
            )

        tasks.start_soon(guard)
        await anyio.lowlevel.checkpoint()
        yield watched
        tasks.cancel_scope.cancel()


async def test_it_ends_after_ten_minutes(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    async with guarded(monkeypatch) as watched:
        await watched.pass_time(STALLED_AFTER - LOOK_EVERY)
        assert (watched.ended, lines.all()) == (0, [])
        await watched.pass_time(2 * LOOK_EVERY)
        assert watched.ended == 1
    [told] = lines.of(Event.DAEMON_STALLED)
    assert (told["level"], told["count"]) == ("error", 0)


async def test_it_never_ends_while_an_answer_could_die_with_it(
    monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    async with guarded(monkeypatch) as watched:
        watched.at_risk = 2
        await watched.pass_time(20 * STALLED_AFTER, step=2 * LOOK_EVERY)
        assert watched.ended == 0
        assert [line["count"] for line in lines.of(Event.DAEMON_STALLED)] == [2]
        watched.at_risk = 0
        await watched.pass_time(2 * LOOK_EVERY)
        assert watched.ended == 1


async def test_a_scheduler_that_turns_again_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    async with guarded(monkeypatch) as watched:
        for turn in range(1, 4):
            await watched.pass_time(0.9 * STALLED_AFTER)
            watched.turned_at = float(turn)
        assert (watched.ended, lines.all()) == (0, [])


async def test_a_process_that_was_stopped_gets_its_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour passed for the clock; for the scheduler none did."""
    async with guarded(monkeypatch) as watched:
        await watched.pass_time(3600.0, step=3600.0)
        await watched.pass_time(4 * LOOK_EVERY)
        assert watched.ended == 0
