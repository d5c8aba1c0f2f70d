"""Runs worlds: the patches they need, and the lines the engine writes in them."""

import random
import secrets
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import structlog
from structlog.typing import EventDict, WrappedLogger

from refresher.engine import revoking, watch
from refresher.logs import Event
from tests.simulation.chance import Violated
from tests.simulation.keys import RotatingWorld
from tests.simulation.settling import settle
from tests.simulation.shared import PACED, SharedWorld
from tests.simulation.world import World


def simulate(steps: int, seed: int, replicas: int = 1, *, rotates: bool = False) -> Counter[str]:
    """STEPS steps of one world, settled at the end; raises ``Violated``.

    A step is one point at which a fault could have been injected.

    Args:
        replicas: processes that share the vault; one has it for itself.
        rotates: they change its key.
    """
    return simulate_traced(steps, seed, replicas, rotates=rotates)[0]


def simulate_traced(
    steps: int, seed: int, replicas: int = 1, *, rotates: bool = False
) -> tuple[Counter[str], int]:
    """As ``simulate``, with a checksum of everything that happened."""
    with opened(seed, replicas, rotates=rotates) as world:
        try:
            while world.steps < steps:
                world.step()
            settle(world)
        except Violated as violated:
            raise Violated(f"seed {seed}: {violated}{_history(world, str(violated))}") from violated
        world.chance.seen["awaits into the outside"] = world.awaits
        return world.chance.seen, world.witness.trace


def _history(world: World, violation: str) -> str:
    """What happened last to the grant that VIOLATION names."""
    name = next((name for name in world.names if name in violation), "")
    return "".join(f"\n  {line}" for line in world.witness.about(name)[-25:])


@contextmanager
def opened(seed: int, replicas: int = 1, *, rotates: bool = False) -> Iterator[World]:
    """The world of SEED, in a process that is all its own."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        _make_secrets_replayable(stack, seed)
        for module in (watch, revoking):  # the world's pace changes it
            stack.enter_context(patch.object(module, "INTERVAL", module.INTERVAL))
        world: World
        if replicas > 1:
            for of, name in PACED:
                stack.enter_context(patch.object(of, name, getattr(of, name)))
            kind = RotatingWorld if rotates else SharedWorld
            world = kind(seed, Path(folder), replicas)
        else:
            world = World(seed, Path(folder))
        stack.callback(world.close)
        stack.callback(structlog.configure, **structlog.get_config())
        structlog.configure(
            processors=[_listener(world)],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        )
        yield world


def _make_secrets_replayable(stack: ExitStack, seed: int) -> None:
    """Fingerprints of tokens decide between grants that are due at the same instant."""
    source = random.Random(f"secrets {seed}")  # noqa: S311  a replayable world

    def token(size: int | None = None) -> str:
        return source.randbytes(size or 32).hex()

    stack.enter_context(patch.object(secrets, "token_urlsafe", token))
    stack.enter_context(patch.object(secrets, "token_hex", token))


def _listener(world: World) -> Callable[[WrappedLogger, str, EventDict], EventDict]:
    """Counts lines; a bug that the engine's supervision outlived is a violation here."""

    def hear(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        world.chance.seen[line["event"]] += 1
        if line["event"] == Event.TASK_RESTARTED:
            world.broken(f"a bug in {line['task']}: {line['error']} {line['traceback']}", None)
        raise structlog.DropEvent

    return hear
