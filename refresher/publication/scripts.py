"""Lua scripts beside the one that publishes: what must look at a key and change it in one piece."""

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

from redis.exceptions import NoScriptError

from refresher.publication.connection import Argument, Server
from refresher.publication.faults import unavailable

Call = Sequence[Argument]
"""A key and the arguments of a script."""


class Script:
    """A Lua file of this package that works on one key; loaded where Redis does not know it."""

    def __init__(self, file: str) -> None:
        self._text = resources.files("refresher.publication").joinpath(file).read_text("utf-8")
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, server: Server, *calls: Call) -> list[Any]:
        """Run it for each of CALLS, a key and arguments, in one round trip.

        Raises:
            PublicationUnavailable: when Redis cannot be used.
        """
        commands = [("EVALSHA", self._sha, 1, *call) for call in calls]
        replies = await server.pipeline(commands)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            await server.execute("SCRIPT", "LOAD", self._text)
            replies = await server.pipeline(commands)  # what ran before has nothing left to do
        for reply in replies:
            if isinstance(reply, Exception):
                raise unavailable(reply, server.where)
        return replies
