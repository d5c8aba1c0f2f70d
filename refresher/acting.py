"""For whom the work is done that goes on here: it stands in the log, and in the vault's log.

Whoever takes an order says so (``acting``), and everything that the order comes to knows it
(``who``), whatever it goes through on its way. What nobody has ordered is the daemon's own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """Who has something done.

    Args:
        kind: ``operator``, ``settings``, ``consumer`` or ``daemon``.
        uid: the user whom the operator's process runs as.
        pid: that process.
    """

    kind: str
    uid: int | None = None
    pid: int | None = None


DAEMON = Actor("daemon")
"""It does by itself what a clock, a server or a bug asks for."""

SETTINGS = Actor("settings")
"""The settings file, as it was read at the start or at a reload."""

CONSUMER = Actor("consumer")
"""A program that reads Redis, and may write what it was refused."""

_actor: ContextVar[Actor] = ContextVar("actor", default=DAEMON)


def operator(uid: int, pid: int) -> Actor:
    """The person, or the program, that the process PID of the user UID works for."""
    return Actor("operator", uid, pid)


def who() -> Actor:
    """For whom this task works."""
    return _actor.get()


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Work for ACTOR until the block ends, also in the tasks that are started in it."""
    before = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(before)
