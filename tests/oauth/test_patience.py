"""Answers that are late: told in time and once, whoever else waits."""

import asyncio

import pytest

from refresher.oauth.patience import Lateness, Patience
from tests.support.waiting import eventually

AFTER = 0.05


@pytest.fixture
def told() -> list[Patience]:
    return []


async def test_each_is_told_once_that_it_is_late(told: list[Patience]) -> None:
    lateness = Lateness(AFTER)
    waiting = [Patience(9.0, lateness=lateness, on_late=told.append) for _ in range(3)]
    began = asyncio.get_running_loop().time()
    for patience in waiting:
        patience.left()
        patience.left()

    await eventually(lambda: len(told) >= len(waiting), "it is told")

    assert told == waiting
    assert asyncio.get_running_loop().time() - began >= AFTER
    assert not lateness._waiting


async def test_what_leaves_later_is_late_later(told: list[Patience]) -> None:
    lateness = Lateness(AFTER)
    first, second, third = (Patience(9.0, lateness=lateness, on_late=told.append) for _ in range(3))
    first.left()
    second.left()
    await eventually(lambda: told == [first, second], "it is told")
    third.left()
    assert told == [first, second]

    await eventually(lambda: told == [first, second, third], "it is told")


async def test_an_answer_that_has_come_is_not_late(told: list[Patience]) -> None:
    lateness = Lateness(AFTER)
    over, late = (Patience(9.0, lateness=lateness, on_late=told.append) for _ in range(2))
    over.left()
    late.left()
    over.over()

    await eventually(lambda: told == [late], "it is told")

    assert not lateness._waiting


async def test_an_answer_that_comes_as_it_is_told_is_not_late(told: list[Patience]) -> None:
    lateness = Lateness(AFTER)
    second = Patience(9.0, lateness=lateness, on_late=told.append)
    first = Patience(9.0, lateness=lateness, on_late=lambda _: second.over())
    last = Patience(9.0, lateness=lateness, on_late=told.append)
    for patience in (first, second, last):
        patience.left()

    await eventually(lambda: last in told, "it is told")

    assert told == [last]


async def test_a_bug_in_one_keeps_nobody_from_being_told(told: list[Patience]) -> None:
    def fail(_: Patience) -> None:
        raise RuntimeError("a bug")

    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context["exception"]))
    lateness = Lateness(AFTER)
    Patience(9.0, lateness=lateness, on_late=fail).left()
    second = Patience(9.0, lateness=lateness, on_late=told.append)
    second.left()

    await eventually(lambda: told == [second], "it is told")

    assert [type(one) for one in complaints] == [RuntimeError]


async def test_a_late_answer_is_waited_for_to_the_deadline(told: list[Patience]) -> None:
    patience = Patience(2 * AFTER, lateness=Lateness(AFTER), on_late=told.append)
    began = asyncio.get_running_loop().time()

    async def wait_for_an_answer() -> None:
        async with patience.limit():
            patience.left()
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await wait_for_an_answer()

    assert told == [patience]
    assert asyncio.get_running_loop().time() - began >= 2 * AFTER
