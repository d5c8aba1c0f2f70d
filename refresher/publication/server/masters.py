"""The servers that take writes: one, the master that sentinels name, or those of a cluster.

Whoever writes a key asks ``Masters``; what is about a server as such, its clock, scripts, scans
and tracking, is asked of each of ``masters``. They are found once for a session. When others
take their place, the session ends with ``Moved`` and all of it begins anew.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import anyio

from refresher.domain.findings import Finding
from refresher.domain.redis_urls import ManyServers
from refresher.errors import PublicationUnavailable
from refresher.logs import Event, emit
from refresher.publication.server.connection import (
    OTHER_LAYOUT,
    Address,
    Argument,
    Command,
    Reread,
    Server,
    check_address,
)

Place = tuple[str, int]
"""Host and port."""

LOOK_EVERY = 0.5
"""Seconds between two looks at who the masters are.

An acknowledged write proves nothing: a demoted master goes on acknowledging for seconds.
"""


MINORITY_WITHIN = 0.2
"""Seconds that others get to answer once most have."""


class Masters(Protocol):
    """Where keys are written."""

    @property
    def where(self) -> str:
        """The servers without credentials, for messages."""

    @property
    def masters(self) -> Sequence[Server]:
        """The servers that take writes, in one order for as long as they are the same.

        Raises:
            PublicationUnavailable: they have not been found yet.
        """

    @property
    def is_divided(self) -> bool:
        """Whether each master has its own keys: no order holds between two of them."""

    def master_of(self, key: str) -> Server:
        """Which of ``masters`` has KEY.

        Raises:
            PublicationUnavailable: none has.
        """

    async def find(self) -> None:
        """Find the masters, anew each time.

        Raises:
            PublicationUnavailable: nobody knows them.
        """

    async def follow(self) -> None:
        """Watch whether others take the masters' place; returns where none can.

        Raises:
            Moved: others have.
        """

    async def survey(self) -> Sequence[Finding]:
        """What there is to say of all servers together, once ``find`` has found them.

        Raises:
            PublicationUnavailable: nobody can be asked.
        """

    async def execute(self, *command: Argument) -> Any:
        """Run one command on one key, as ``Server.execute``."""

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Run COMMANDS, each on one key, as ``Server.pipeline``."""

    async def move(self, address: Address) -> None:
        """Use ADDRESS from now on, as ``Server.move``."""

    async def disconnect(self) -> None:
        """Close all connections; the next command opens a new one."""

    async def aclose(self) -> None:
        """Close everything for good."""


class Several:
    """Servers of one URL, each opened when it is named first.

    Args:
        reread: as for ``Server``.
    """

    def __init__(self, address: Address, *, reread: Reread | None = None) -> None:
        assert address.many is not None
        self._address = address
        self._many: ManyServers = address.many
        self._reread = reread
        self._servers: dict[Place, Server] = {}

    def _server(self, place: Place) -> Server:
        """The server at PLACE that holds data."""
        if place not in self._servers:

            async def reread() -> Address:
                assert self._reread is not None
                await self.move(await self._reread())
                return self._address.at(*place)

            is_reread = self._reread is not None
            server = Server(self._address.at(*place), reread=reread if is_reread else None)
            self._servers[place] = server
        return self._servers[place]

    async def _forget(self, places: Sequence[Place]) -> None:
        for place in places:
            await self._servers.pop(place).aclose()

    async def move(self, address: Address) -> None:
        """Use ADDRESS from now on, as ``Server.move``; other hosts with the next ``find``.

        Raises:
            ValueError: as ``open_server``.
        """
        check_address(address)
        if address.many is None or address.many.layout is not self._many.layout:
            emit(Event.REDIS_DOUBTED, server=self._address.shown, reason=OTHER_LAYOUT)
            return
        is_elsewhere = address.location != self._address.location
        self._address, self._many = address, address.many
        for place, server in list(self._servers.items()):
            await server.move(address.at(*place))
        if is_elsewhere:
            await self.disconnect()

    async def disconnect(self) -> None:
        """Close all connections; the next command opens a new one."""
        for server in list(self._servers.values()):
            await server.disconnect()

    async def aclose(self) -> None:
        """Close everything for good."""
        for server in list(self._servers.values()):
            await server.aclose()


async def ask_most(
    servers: Mapping[Place, Server], commands: Sequence[Command]
) -> tuple[dict[Place, list[Any]], list[str]]:
    """What more than half of SERVERS answer to COMMANDS, and why others do not.

    Whoever stays silent is waited for only as long as the others are no majority.
    """
    answers: dict[Place, list[Any]] = {}
    faults: list[str] = []
    async with anyio.create_task_group() as group:

        async def ask(place: Place, server: Server) -> None:
            try:
                answers[place] = await server.pipeline(commands)
            except PublicationUnavailable as error:
                faults.append(str(error).removeprefix("Redis at "))
            if len(answers) > len(servers) / 2:
                latest = anyio.current_time() + MINORITY_WITHIN
                group.cancel_scope.deadline = min(group.cancel_scope.deadline, latest)

        for place, server in servers.items():
            group.start_soon(ask, place, server)
    return answers, sorted(faults)


def counted(count: int, word: str) -> str:
    """COUNT of what WORD names."""
    return f"{count} {word}{'' if count == 1 else 's'}"
