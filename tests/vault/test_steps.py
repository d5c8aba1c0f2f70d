"""Steps of the wall clock: each is made once, before anything of the new time is written."""

from functools import partial

import anyio
import pytest

from refresher.clock import SinceBoot
from refresher.errors import UnknownGrant, VaultUnavailable
from refresher.vault import clock_steps
from refresher.vault.clock_steps import ClockSteps, Following
from refresher.vault.sqlite import backup
from refresher.vault.vault import Vault
from tests.vault.world import (
    LIFE,
    NOW,
    answered,
    at,
    clock_of,
    get,
    make_seed,
    refresh,
    set_writable,
    sow,
    step_back,
)

pytestmark = pytest.mark.of_a_file

BOOT = SinceBoot("boot-1", 5000.0)


@pytest.fixture
async def fresh(vault: Vault) -> Vault:
    """A vault with the fresh grant acme, issued at NOW."""
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    return vault


async def issued_at(vault: Vault) -> float | None:
    return (await get(vault)).issued_at


async def test_the_grants_of_a_step_are_named_in_pages(
    fresh: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_steps, "NAMED", 2)
    await sow(fresh, *(make_seed(name, f"rt-{name}") for name in "abcd"))
    clock_of(fresh).step(-7200)
    pages = [names async for names in fresh.steps.follow()]
    assert pages == [["acme", "a"], ["b", "c"], ["d"]]
    assert await issued_at(fresh) == NOW - 7200


async def test_writes_that_share_a_commit_make_a_step_once(fresh: Vault) -> None:
    clock_of(fresh).step(-7200)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(fresh.prove_writable)
    assert await issued_at(fresh) == NOW - 7200


async def test_a_write_that_fails_leaves_the_step_to_the_next(fresh: Vault) -> None:
    clock_of(fresh).step(-7200)
    with pytest.raises(UnknownGrant):
        await at(fresh, NOW - 7200).remove("nobody")
    assert await issued_at(fresh) == NOW
    await at(fresh, NOW - 7200).prove_writable()
    assert await issued_at(fresh) == NOW - 7200


async def test_a_refused_step_is_made_before_the_next_write(fresh: Vault) -> None:
    clock_of(fresh).step(-7200)
    set_writable(fresh, writable=False)
    with pytest.raises(VaultUnavailable):
        await at(fresh, NOW - 7200).prove_writable()
    clock_of(fresh).step(-100)
    set_writable(fresh, writable=True)
    asked = await at(fresh, NOW - 7300).request_refresh("acme")
    assert asked is not None
    assert (await issued_at(fresh), asked.due_at) == (NOW - 7300, NOW - 7300)


async def test_a_step_whose_commit_nobody_confirmed_is_not_made_again(fresh: Vault) -> None:
    clock_of(fresh).step(-7200)
    await at(fresh, NOW - 7200).prove_writable()
    fresh._following._made = 0
    await at(fresh, NOW - 7200).prove_writable()
    assert await issued_at(fresh) == NOW - 7200


async def test_a_step_that_two_processes_saw_is_made_once(fresh: Vault) -> None:
    """One that was believed dead goes on, and makes only what nobody has made."""
    other = Following(0.0)
    await step_back(fresh, -7200)
    for offset in (-7200, -100):
        other.clock_set_back(offset)
        await fresh._write(partial(other.follow, steps=other.steps))
    assert await issued_at(fresh) == NOW - 7300


async def test_a_step_before_an_opening_is_made_once_beside_a_process_that_saw_it(
    fresh: Vault,
) -> None:
    await at(fresh, NOW + 10, BOOT).prove_writable()
    later = SinceBoot(BOOT.boot, BOOT.elapsed + 1)
    other, opened = Following(0.0), Following(0.0)
    steps = ClockSteps(opened, write=fresh._write, clock=at(fresh, NOW + 11 - 7200, later).clock)
    assert (await steps.follow_unseen()).offset == -7200
    for following, offset in ((other, -7200), (opened, -100)):
        following.clock_set_back(offset)
        await fresh._write(partial(following.follow, steps=1))
    assert await issued_at(fresh) == NOW - 7300


async def test_what_was_asked_for_before_a_step_is_moved_with_it(fresh: Vault) -> None:
    """Both wait for the thread: the clock was read before one, and stepped before the other."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(at(fresh, NOW + 60).request_refresh, "acme")
        await anyio.lowlevel.checkpoint()
        tasks.start_soon(step_back, fresh, -7200, NOW + 60)
    assert (await get(fresh)).due_at == NOW + 60 - 7200


async def test_a_copy_stays_as_old_as_it_was(fresh: Vault) -> None:
    """What came after the restore must not seem to be from before it."""
    await fresh._write(lambda tx: backup.set_restored_from(tx, NOW + 5))
    await at(fresh, NOW + 10).origin.learn()
    assert fresh.origin.restored_from == NOW + 5
    await step_back(fresh, -7200, NOW + 10)
    assert fresh.origin.restored_from == NOW + 5 - 7200
    await at(fresh, NOW + 10 - 7200).origin.learn()
    assert fresh.origin.restored_from == NOW + 5 - 7200


@pytest.mark.parametrize(
    ("passed", "showed", "offset"),
    [(600, 600, 0), (600, 599, 0), (600, -6600, -7200), (600, 7800, 0), (86_400, 3600, -82_800)],
    ids=["none", "too small", "back", "ahead", "less than has passed"],
)
async def test_a_step_within_a_boot_is_measured(
    fresh: Vault, passed: float, showed: float, offset: float
) -> None:
    """A clock that is ahead moves nothing: a machine that is paused counts no time either."""
    await at(fresh, NOW + 10, BOOT).prove_writable()
    later = SinceBoot(BOOT.boot, BOOT.elapsed + passed)
    step = await at(fresh, NOW + 10 + showed, later).steps.follow_unseen()
    assert (step.offset, step.is_measured) == (offset, True)
    assert await issued_at(fresh) == NOW + offset
    assert (await at(fresh, NOW + 10 + showed, later).steps.follow_unseen()).offset == 0


@pytest.mark.parametrize("now", [SinceBoot("boot-2", 30.0), None], ids=["another boot", "no boot"])
async def test_after_another_boot_the_least_step_is_assumed(
    fresh: Vault, now: SinceBoot | None
) -> None:
    """Waits follow; what is left of a token's life nobody knows, so it is replaced."""
    before = await get(fresh)
    await at(fresh, NOW + 10, BOOT).prove_writable()
    step = await at(fresh, NOW - 3600, now).steps.follow_unseen()
    assert (step.offset, step.is_measured) == (-3610, False)
    after = await get(fresh)
    assert (after.served_at, after.issued_at) == (NOW - 3610, NOW)
    assert before.due_at is not None
    assert after.due_at == before.due_at - 3610
    assert await at(fresh, NOW - 3600).steps.hasten_misdated() == ["acme"]


@pytest.mark.parametrize(
    ("now", "booted", "leaves"),
    [
        (NOW + 600, SinceBoot(BOOT.boot, BOOT.elapsed + 590), False),
        (NOW - 3600, SinceBoot(BOOT.boot, BOOT.elapsed + 590), False),
        (NOW + 600, SinceBoot("boot-2", 30.0), False),
        (NOW - 3600, SinceBoot("boot-2", 30.0), True),
        (NOW + 600, SinceBoot(BOOT.boot, BOOT.elapsed - 1), True),
    ],
    ids=["no step", "measured", "another boot", "back by who knows how much", "machine put back"],
)
async def test_all_grants_are_looked_through_only_where_one_may_be_misdated(
    fresh: Vault, now: float, booted: SinceBoot, *, leaves: bool
) -> None:
    await at(fresh, NOW + 10, BOOT).prove_writable()
    step = await at(fresh, now, booted).steps.follow_unseen()
    assert step.leaves_misdated is leaves


async def test_a_vault_without_a_mark_may_hold_anything(vault: Vault) -> None:
    assert (await vault.steps.follow_unseen()).leaves_misdated


async def test_after_another_boot_time_has_passed(fresh: Vault) -> None:
    await at(fresh, NOW + 10, BOOT).prove_writable()
    step = await at(fresh, NOW + LIFE, SinceBoot("boot-2", 30.0)).steps.follow_unseen()
    assert (step.offset, await issued_at(fresh)) == (0, NOW)


async def test_a_step_that_was_followed_is_not_measured_again(fresh: Vault) -> None:
    """The process died before it marked the clock anew."""
    await at(fresh, NOW + 10, BOOT).prove_writable()
    await step_back(fresh, -7200, NOW + 10)
    step = await at(
        fresh, NOW + 11 - 7200, SinceBoot(BOOT.boot, BOOT.elapsed + 1)
    ).steps.follow_unseen()
    assert (step.offset, await issued_at(fresh)) == (0, NOW - 7200)


@pytest.mark.parametrize("mark", [b"", b"null", b"[]", b'["a", 1, 2]', b"\xff", b'[1, "b", {}]'])
async def test_a_mark_that_nobody_can_read_is_none(fresh: Vault, mark: bytes) -> None:
    await at(fresh, NOW + 10, BOOT).prove_writable()
    await fresh._write(
        lambda tx: tx.connection.exec_driver_sql(
            "UPDATE facts SET value = ? WHERE name = 'clock_mark'", (mark,)
        )
    )
    assert (await at(fresh, NOW - 3600, BOOT).steps.follow_unseen()).offset == 0
