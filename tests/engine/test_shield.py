"""What is shielded ends by itself, and what comes after it is cancelled."""

import anyio
import anyio.lowlevel
import pytest

from refresher.engine.supervision import Shield


async def test_a_shielded_part_ends_and_the_next_wait_does_not() -> None:
    begun, may_end, seen = anyio.Event(), anyio.Event(), list[str]()

    async def work() -> None:
        with anyio.CancelScope() as scope:
            shield = Shield(scope)
            for number in range(3):
                with shield:
                    begun.set()
                    await may_end.wait()
                    seen.append(f"shielded {number}")
                await anyio.lowlevel.checkpoint()
                seen.append(f"open {number}")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await begun.wait()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.01)
            assert seen == []
            may_end.set()

    assert seen == ["shielded 0"]


async def test_a_bug_in_a_shielded_part_leaves_no_shield() -> None:
    with anyio.CancelScope() as scope:
        shield = Shield(scope)
        with pytest.raises(RuntimeError), shield:
            raise RuntimeError
        scope.cancel()
        await anyio.sleep(60)

    assert scope.cancelled_caught
