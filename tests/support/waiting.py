"""Waiting for what has to come about.

Every wait has an end, so that a hang is found and named. It judges no speed: a machine that
is busy with other things takes its time, and a test that cannot wait for it fails for nothing.
"""

import inspect
import time
from collections.abc import Callable

import anyio

PATIENCE = 120.0
"""Seconds until something that has to come counts as never coming."""


def wait_until(
    predicate: Callable[[], object],
    *,
    description: str,
    within: float = PATIENCE,
    every: float = 0.02,
) -> None:
    """Wait until PREDICATE is true, or fail saying what never came about.

    Args:
        within: seconds; only where more than ``PATIENCE`` is needed.
    """
    deadline = time.monotonic() + within
    while not predicate():
        assert time.monotonic() < deadline, f"not within {within:g} s: {description}"
        time.sleep(every)


async def eventually(
    predicate: Callable[[], object], what: str, *, within: float = PATIENCE
) -> float:
    """Wait in a loop for PREDICATE, which may be async, to hold; the seconds it took.

    Raises:
        AssertionError: naming WHAT never came.
    """
    began = anyio.current_time()
    while True:
        found = predicate()
        if await found if inspect.isawaitable(found) else found:
            return anyio.current_time() - began
        assert anyio.current_time() - began < within, f"not within {within:g} s: {what}"
        await anyio.sleep(0.002)
