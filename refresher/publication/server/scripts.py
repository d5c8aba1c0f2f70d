"""Lua scripts: how they are called, and loaded again when a server has forgotten them."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import Any

from redis.exceptions import NoScriptError

from refresher.publication.server.connection import Argument, Command
from refresher.publication.server.masters import Masters


class Script:
    """A Lua file of this room that works on one key; loaded where a server does not know it.

    Scripts are what must look at a key and change it in one piece.
    """

    def __init__(self, file: str) -> None:
        room = resources.files("refresher.publication.server")
        self._text = room.joinpath(file).read_text("utf-8")
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def call(self, key: Argument, *arguments: Argument) -> Command:
        """The command that runs it on KEY."""
        return ("EVALSHA", self._sha, 1, key, *arguments)

    async def load(self, server: Masters) -> None:
        """Have it ready at every master.

        Raises:
            PublicationUnavailable: when Redis cannot be used.
        """
        for master in server.masters:
            await master.execute("SCRIPT", "LOAD", self._text)

    async def run(self, server: Masters, commands: Sequence[Command]) -> list[Any]:
        """Run COMMANDS in one round trip, those that found no script again with it.

        A refused one has its exception as the reply.

        Raises:
            PublicationUnavailable: as ``Server.pipeline``.
        """
        replies = await server.pipeline(commands)
        forgotten = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if forgotten:
            await self.load(server)
            again = await server.pipeline([commands[at] for at in forgotten])
            for at, reply in zip(forgotten, again, strict=True):
                replies[at] = reply
        return replies


PUBLISH = Script("publish.lua")
"""Writes a hash if it is newer than what is there."""


class Mode(StrEnum):
    """What is done besides writing what is newer."""

    NEWER = "0"
    FORCE = "1"
    """A higher one is overwritten as well."""
    AGAIN = "2"
    """The message of an equal one is said again."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the script did with one hash."""

    outcome: str
    is_left: bool
    """What was there before stays."""
    unheard: str
    """Why the message could not be said, in Redis' words; empty if it was, or if none was due."""
    was_spoilt: bool
    """Something of another type was there, and is gone."""


def read_reply(reply: Sequence[bytes]) -> Reply:
    """What the script answered."""
    outcome, left, unheard, spoilt = (part.decode(errors="replace") for part in reply)
    return Reply(outcome, bool(left), unheard, bool(spoilt))


def publish_command(
    key: str,
    order: tuple[str, int],
    fields: Mapping[str, str],
    *,
    mode: Mode = Mode.NEWER,
    life: float = math.inf,
    sent_at: int | None = None,
    message: str = "",
) -> Command:
    """Write FIELDS to the hash KEY if ORDER, field and value, is not below what is there.

    Args:
        life: seconds KEY may live from ``sent_at`` on; infinite for no end.
        sent_at: milliseconds on the server's clock; only a life that ends needs it.
        message: for the channel of the same name; empty for none.
    """
    ends = "" if math.isinf(life) else math.floor(life * 1000)
    begins: Argument = "" if sent_at is None else sent_at
    announced = (key if message else "", message)
    parts = [part for pair in fields.items() for part in pair]
    return PUBLISH.call(key, *order, mode, ends, begins, *announced, *parts)
