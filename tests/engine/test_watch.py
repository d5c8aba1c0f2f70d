"""The watch: what the clock does to grants is said once, and what nobody works on is seen."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from refresher.clock import Instant
from refresher.domain.endings import DAY
from refresher.domain.grants import GrantState
from refresher.domain.repairs import OVERDUE, repair
from refresher.engine.watch import INTERVAL, OVERDUE_AFTER, OVERDUE_EVERY, Watch
from refresher.logs import Event
from refresher.vault.selecting import Selection
from refresher.vault.vault import Vault
from tests.engine.world import Lines
from tests.support.waiting import eventually
from tests.vault.world import (
    LIFE,
    NOT_SENT,
    NOW,
    FakeClock,
    answered,
    at,
    claim_one,
    clock_of,
    get,
    login_of,
    make_seed,
    opened,
    refresh,
    set_writable,
    sow,
    static_seed,
)


@dataclass
class Observed:
    """A watch, its clock, and whom it told."""

    watch: Watch
    clock: FakeClock
    published: list[str] = field(default_factory=list)
    woken: list[float] = field(default_factory=list)
    readmitted: list[str] = field(default_factory=list)
    held_back: set[str] = field(default_factory=set)

    async def look(self, now: float) -> None:
        """What the watch does once a second."""
        self.clock.move(now - self.clock.now())
        await self.watch._look(now)

    async def watch_for(self, seconds: float) -> None:
        """Let SECONDS pass, with a look each second, for a scheduler that does nothing."""
        before = Instant.of(self.clock)
        for _ in range(round(seconds / INTERVAL)):
            self.clock.move(INTERVAL)
            before = await self.watch._turn(before)


@pytest.fixture
def observed(vault: Vault) -> Observed:
    return watching(vault)


def watching(vault: Vault) -> Observed:
    """A watch over VAULT."""
    clock = clock_of(vault)
    published: list[str] = []
    readmitted: list[str] = []
    woken: list[float] = []
    held_back: set[str] = set()

    async def readmit(names: Sequence[str]) -> None:
        readmitted.extend(names)

    watch = Watch(
        vault=vault,
        publish=published.append,
        readmit=readmit,
        wake=lambda: woken.append(clock.now()),
        held_back=lambda: held_back,
        clock=vault.clock,
    )
    return Observed(watch, clock, published, woken, readmitted, held_back)


async def test_states_moved_by_the_clock_are_published(
    vault: Vault, observed: Observed, lines: Lines
) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await at(vault, NOW).request_refresh("acme")
    failed = await refresh(vault, NOT_SENT)
    for now in (NOW + LIFE - 301, NOW + LIFE - 299, NOW + LIFE - 298, NOW + LIFE, NOW + LIFE + 1):
        await observed.look(now)
    assert observed.published == ["acme", "acme"]
    degraded, expired = lines.of(Event.GRANT_DEGRADED)[0], lines.of(Event.GRANT_EXPIRED)[0]
    assert [line for line in lines.events() if line != "grant.overdue"] == [
        "grant.degraded",
        "grant.expired",
    ]
    assert degraded | {"timestamp": None} == {
        "event": "grant.degraded",
        "level": "warning",
        "timestamp": None,
        "grant": "acme",
        "client": "crm",
        "reason": failed.reason,
        "expires_at": NOW + LIFE,
        "next_attempt_at": failed.due_at,
        "repair": repair(replace(failed, state=GrantState.DEGRADED)),
    }
    assert expired["level"] == "error"


async def test_a_pause_that_is_over_is_told_where_no_claim_can_end_it(
    vault: Vault, observed: Observed, lines: Lines
) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    await vault.pauses.pause(Selection(names=["acme"]), until=NOW + 60)
    await observed.look(NOW + 50)
    assert observed.published == []
    observed.clock.move(10)
    await observed.look(NOW + 60)
    assert observed.published == ["acme"]
    assert [line for line in lines.events() if line.startswith("grant.")] == ["grant.resumed"]
    assert (await get(vault)).state is GrantState.FRESH


async def test_an_ended_static_token_names_its_repair(
    vault: Vault, observed: Observed, lines: Lines
) -> None:
    await sow(vault, static_seed(expires_at=NOW + 10))
    await observed.look(NOW + 10)
    [line] = lines.of(Event.GRANT_LOST)
    assert (line["reason"], line["repair"]) == ("token_ended", "refresher set-token pat")


async def test_a_token_without_refresh_names_its_repair(
    vault: Vault, observed: Observed, lines: Lines
) -> None:
    await sow(vault, make_seed(refresh_token=None))
    await at(vault, NOW).authorize("acme", login_of(await get(vault), answered("at")))
    await observed.look(NOW + LIFE)
    [line] = lines.of(Event.GRANT_LOST)
    assert line["reason"] == "no_refresh_token"
    assert line["repair"].startswith("refresher login acme, with what makes the server")


SURE = OVERDUE_AFTER + 2 * OVERDUE_EVERY
"""Seconds after which whatever is overdue has been told."""


async def test_overdue_grants_are_reported_once(
    vault: Vault, observed: Observed, lines: Lines
) -> None:
    await sow(vault, *(make_seed(f"g{n}", f"rt-{n}") for n in range(3)))
    await claim_one(vault, NOW, "g0")
    await observed.watch_for(2 * SURE)
    [line] = lines.of(Event.GRANT_OVERDUE)
    assert line["grant"] in {"g1", "g2"}
    assert (line["client"], line["count"]) == ("crm", 2)
    assert OVERDUE_AFTER < line["overdue_s"] <= SURE


@pytest.mark.parametrize(("held_back", "reason"), [({"crm"}, "held_back"), (set(), "overdue")])
async def test_a_token_that_ends_meanwhile_says_what_its_refresh_waits_for(
    vault: Vault, observed: Observed, held_back: set[str], reason: str
) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    observed.held_back |= held_back
    await observed.look(NOW + LIFE)
    found = await get(vault)
    assert (found.state, found.reason) == (GrantState.EXPIRED, reason)


async def test_what_waits_for_its_endpoint_is_not_overdue(
    vault: Vault, observed: Observed, lines: Lines
) -> None:
    """The endpoint has a line of its own; afterwards there is time to catch up."""
    await sow(vault, make_seed())
    observed.held_back.add("crm")
    await observed.watch_for(3 * SURE)
    assert lines.of(Event.GRANT_OVERDUE) == []
    observed.held_back.clear()
    await observed.watch_for(OVERDUE_EVERY)
    assert lines.of(Event.GRANT_OVERDUE) == []
    await observed.watch_for(2 * OVERDUE_EVERY)  # nobody has
    [line] = lines.of(Event.GRANT_OVERDUE)
    assert line["repair"] == OVERDUE


async def test_a_grant_overdue_anew_is_reported_anew(
    vault: Vault, observed: Observed, lines: Lines
) -> None:
    await sow(vault, make_seed())
    await observed.watch_for(SURE)
    await refresh(vault, answered("at-1"), observed.clock.now())
    await observed.watch_for(SURE)
    assert len(lines.of(Event.GRANT_OVERDUE)) == 1
    await at(vault, observed.clock.now()).request_refresh("acme")
    await observed.watch_for(SURE)
    assert len(lines.of(Event.GRANT_OVERDUE)) == 2


async def test_a_start_with_old_work_is_no_alarm(
    vault: Vault, observed: Observed, lines: Lines
) -> None:
    """The daemon was down: everything is long due, and nobody could work on it yet."""
    await sow(vault, make_seed())
    observed.clock.step(LIFE)
    await observed.watch_for(OVERDUE_AFTER - 1)
    assert lines.of(Event.GRANT_OVERDUE) == []
    await observed.watch_for(SURE - OVERDUE_AFTER + 1)
    [line] = lines.of(Event.GRANT_OVERDUE)
    assert line["overdue_s"] >= LIFE + OVERDUE_AFTER


@pytest.mark.parametrize("break_", ["step ahead", "stopped process", "refusing vault"])
async def test_after_a_break_there_is_time_to_catch_up(
    vault: Vault, observed: Observed, lines: Lines, break_: str
) -> None:
    await observed.watch_for(SURE)
    before = Instant.of(observed.clock)
    await sow(vault, make_seed(), now=observed.clock.now())
    match break_:
        case "step ahead":
            observed.clock.step(LIFE)
        case "stopped process":
            observed.clock.move(LIFE)
        case _:
            set_writable(vault, writable=False)
            observed.clock.move(SURE)
            await observed.watch._turn(before)
            set_writable(vault, writable=True)
            before = Instant.of(observed.clock)
    await observed.watch._turn(before)
    await observed.watch_for(OVERDUE_AFTER - 5)
    assert lines.of(Event.GRANT_OVERDUE) == []
    await observed.watch_for(SURE)
    assert len(lines.of(Event.GRANT_OVERDUE)) == 1


async def test_who_catches_up_is_not_behind(vault: Vault, observed: Observed, lines: Lines) -> None:
    """What a start found is worked off, slowly: told only once it goes no further."""
    names = [f"g{n}" for n in range(40)]
    await sow(vault, *(make_seed(name, f"rt-{name}") for name in names))
    for name in names[:30]:
        await observed.watch_for(OVERDUE_EVERY)
        await refresh(vault, answered(f"at-{name}"), observed.clock.now(), name=name)
    assert lines.of(Event.GRANT_OVERDUE) == []
    await observed.watch_for(2 * OVERDUE_EVERY)
    [line] = lines.of(Event.GRANT_OVERDUE)
    assert line["count"] == 10


async def ends_told(observed: Observed, lines: Lines, days: int) -> list[float]:
    """How many of DAYS from now are left at each warning, with a look every hour."""
    told = []
    for hour in range(days * 24):
        before = len(lines.of(Event.GRANT_ENDING))
        observed.watch._next_endings = 0.0
        await observed.look(NOW + hour * 3600.0)
        if len(lines.of(Event.GRANT_ENDING)) > before:
            told.append(days - hour / 24)
    return told


async def test_an_end_is_announced_three_times(
    vault: Vault, observed: Observed, lines: Lines
) -> None:
    """At 14, 7 and 1 days, each once, however often the watch looks."""
    await sow(vault, make_seed())
    await refresh(vault, answered("at", refresh_token_expires_in=20 * DAY, expires_in=30 * DAY))
    assert await ends_told(observed, lines, 20) == [14, 7, 1]
    line = lines.of(Event.GRANT_ENDING)[0]
    assert (line["reason"], line["expires_at"], line["days"]) == (
        "refresh_token_ends",
        NOW + 20 * DAY,
        14,
    )
    assert line["repair"].startswith("refresher login acme, before its refresh token ends at 20")
    assert repair(await get(vault)) == line["repair"]
    assert observed.published == 3 * ["acme"]


async def test_an_announced_end_is_not_announced_again_after_a_restart(
    tmp_path: Path, lines: Lines
) -> None:
    for day in (6, 6.1, 8):
        async with opened(tmp_path, FakeClock()) as vault:
            if day == 6:
                await sow(vault, make_seed())
                await refresh(vault, answered("at", refresh_token_expires_in=20 * DAY))
            await watching(vault).look(NOW + day * DAY)
    assert [line["days"] for line in lines.of(Event.GRANT_ENDING)] == [14]


async def test_ends_that_each_refresh_prolongs_are_no_news(
    vault: Vault, observed: Observed, lines: Lines
) -> None:
    """A refresh token that lives a quarter of an hour longer than the earliest warning."""
    await sow(vault, make_seed())
    told = {"refresh_token_expires_in": 14 * DAY + 900, "expires_in": LIFE}
    for hour in range(48):
        now = NOW + hour * 3600.0
        await at(vault, now).request_refresh("acme")
        await refresh(vault, answered(f"at-{hour}", f"rt-{hour}", **told), now)
        observed.watch._next_endings = 0.0
        await observed.look(now + 2400)
    assert lines.of(Event.GRANT_ENDING) == []
    observed.watch._next_endings = 0.0
    await observed.look(NOW + 47 * 3600.0 + 8 * DAY)
    assert [line["days"] for line in lines.of(Event.GRANT_ENDING)] == [7]


async def test_a_distant_end_is_not_announced(
    vault: Vault, observed: Observed, lines: Lines
) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at", refresh_token_expires_in=15 * DAY))
    await observed.look(NOW)
    assert lines.of(Event.GRANT_ENDING) == []


async def test_the_watch_looks_by_itself(vault: Vault, observed: Observed, lines: Lines) -> None:
    """It outlives a refusing vault, and sees the wall clock jump, back and forth."""
    await sow(vault, static_seed(expires_at=NOW + 10), make_seed())
    before = await refresh(vault, answered("at-1", "rt-1"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(observed.watch.run)
        await anyio.lowlevel.checkpoint()
        seen = observed.clock.monotonic_reads
        set_writable(vault, writable=False)
        await eventually(lambda: observed.clock.monotonic_reads > seen, "a first look")
        set_writable(vault, writable=True)
        assert observed.published == []
        observed.clock.move(INTERVAL)
        observed.clock.step(-60)
        await eventually(lambda: observed.published, "a look after the step back")
        await eventually(lambda: lines.of(Event.CLOCK_JUMPED), "the line of the step back")
        assert lines.of(Event.CLOCK_JUMPED)[0]["offset_s"] == -60.0
        observed.clock.step(3600)
        await eventually(lambda: len(lines.of(Event.CLOCK_JUMPED)) == 2, "the step forward")
        await eventually(lambda: "pat" in observed.published, "the ended token")
        tasks.cancel_scope.cancel()
    assert lines.of(Event.CLOCK_JUMPED)[1]["offset_s"] == 3600.0
    assert len(observed.woken) == 2
    assert observed.published[0] == "acme"
    after = await get(vault)
    assert (after.due_at, after.expires_at) == (before.due_at - 60, before.expires_at - 60)  # type: ignore[operator]  # it is fresh


async def test_a_suspended_machine_wakes_the_scheduler(
    vault: Vault, observed: Observed, lines: Lines
) -> None:
    """Elapsed time stood still while the wall clock went on."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(observed.watch.run)
        await anyio.lowlevel.checkpoint()
        seen = observed.clock.monotonic_reads
        observed.clock.step(1.9)
        await eventually(lambda: observed.clock.monotonic_reads > seen, "a first look")
        assert lines.of(Event.CLOCK_JUMPED) == []
        observed.clock.step(8 * 3600)
        await eventually(lambda: observed.woken, "the wake")
        tasks.cancel_scope.cancel()
    [line] = lines.of(Event.CLOCK_JUMPED)
    assert line["offset_s"] == 28_800.0
