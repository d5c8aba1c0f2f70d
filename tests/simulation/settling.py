"""The end of a world: without faults, every grant must become as good as new."""

from collections.abc import Callable
from typing import Any

from refresher.domain.grants import GrantState
from tests.simulation.rows import Row
from tests.simulation.server import KINDS
from tests.simulation.world import World

SETTLED_WITHIN = 7_500.0
"""Seconds without faults after which nothing may be wrong any more: the longest doubt, the
login that it takes then, and a revocation that waited for its server."""


def settle(world: World) -> None:
    """Let everything end, first with whoever runs, then with a new process at each place."""
    world.calm_down()
    _wait_for(world, lambda: _stuck(world))
    for file in world.files:
        world.take_up(file)
    _wait_for(world, lambda: _stuck(world) + _left_over(world))


def _wait_for(world: World, unsettled: Callable[[], list[Any]]) -> None:
    """Run until nothing is UNSETTLED any more; whoever runs by now is not helped."""
    began = world.time()
    while left := unsettled():
        if world.time() > began + SETTLED_WITHIN:
            world.witness.violated(f"G7: never recovered: {left}")
        world.run_for(5.0)


def _stuck(world: World) -> list[Any]:
    """Grants that are not yet as they should be."""
    now, published = world.now(), world.witness.versions_published
    return [
        (row.name, row.state, row.reason, row.due_at and row.due_at - now)
        for row in world.witness.rows.values()
        if row.state != GrantState.FRESH
        or not _is_scheduled(world, row, now)
        or published.get(row.name) != row.version
    ]


def _is_scheduled(world: World, row: Row, now: float) -> bool:
    if row.client is None:
        return row.expires_at is None
    latest = now + KINDS[row.client].lifetime * world.pace
    return row.due_at is not None and now - 30.0 < row.due_at < latest


def _left_over(world: World) -> list[Any]:
    """Answers nobody took up, requests under way, authorizations to be revoked."""
    unstored = [name for name, _ in world.witness.answers]
    return (
        unstored
        + ["wire"] * world.network.under_way
        + world.witness.endings.left_over()
        + world.outdated()
    )
