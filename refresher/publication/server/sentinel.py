"""The master that sentinels name, and whether they name another one now.

A master that lost its place acknowledges writes for seconds and drops them later, and nothing
on its connections tells. So its sentinels are asked twice a second. The one that saw the newest
change is believed: the others hear of it within two seconds, and one that is cut off does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from refresher.domain.findings import Finding, Level
from refresher.domain.redis_urls import located
from refresher.errors import PublicationUnavailable
from refresher.logs import Event, emit
from refresher.publication.server.connection import Address, Argument, Command, Reread, Server
from refresher.publication.server.faults import Moved, describe
from refresher.publication.server.masters import LOOK_EVERY, Place, Several, ask_most, counted

ROLE_WITHIN = 0.5
"""Seconds a master may take to say whether it is one; whoever is silent is tried as one."""

FEWEST = 3
"""Sentinels without which nobody can tell a dead master from a cut line."""


@dataclass(frozen=True, slots=True)
class _Named:
    """What one sentinel says."""

    place: Place
    details: Mapping[str, str]

    @property
    def epoch(self) -> int:
        """Grows with every failover."""
        return int(self.details.get("config-epoch", 0))


class Sentinel(Several):
    """The one master of a name; see ``Masters``."""

    is_divided = False

    def __init__(self, address: Address, *, reread: Reread | None = None) -> None:
        super().__init__(address, reread=reread)
        self._sentinels: dict[Place, Server] = {}
        self._named: Place | None = None
        self._master: Server | None = None

    @property
    def where(self) -> str:
        """The master, or its sentinels until it is found."""
        return self._address.shown if self._master is None else self._master.where

    @property
    def masters(self) -> Sequence[Server]:
        """The master."""
        return (self._found(),)

    def master_of(self, _key: str) -> Server:
        """The master."""
        return self._found()

    async def execute(self, *command: Argument) -> Any:
        """Run one command, as ``Server.execute``."""
        return await self._found().execute(*command)

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Run COMMANDS, as ``Server.pipeline``."""
        return await self._found().pipeline(commands)

    async def find(self) -> None:
        """Ask the sentinels; one replaced by ``FAILOVER`` behind their back names its own.

        Raises:
            PublicationUnavailable: no sentinel knows the master.
        """
        named = await self._look()
        master = self._server(named)
        successor = await _master_of_replica(master)
        self._named = named
        self._master = master if successor is None else self._server(successor)
        await self._forget([at for at in self._servers if at not in (named, successor)])

    async def follow(self) -> None:
        """Watch what the sentinels say.

        Raises:
            Moved: they name another master.
        """
        is_doubted = False
        while True:
            await anyio.sleep(LOOK_EVERY)
            try:
                named = await self._look()
            except PublicationUnavailable as error:
                if not is_doubted:
                    reason = f"another master would not be noticed: {error}"
                    emit(Event.REDIS_DOUBTED, server=self.where, reason=reason)
                is_doubted = True
                continue
            is_doubted = False
            if named != self._named:
                raise Moved(f"the sentinels name another master: {located(*named)}")

    async def survey(self) -> Sequence[Finding]:
        """How many sentinels answer, and what they say.

        Raises:
            PublicationUnavailable: none answers.
        """
        answers, faults = await self._ask()
        named = self._newest(answers, faults)
        details = named.details
        replicas, others = (
            int(details.get(f"num-{one}", 0)) for one in ("slaves", "other-sentinels")
        )
        subject = f"Redis master {self._many.master}"
        hosts = len(self._many.hosts)
        found = [
            Finding(
                subject=subject,
                text=f"is {located(*named.place)}, with {counted(replicas, 'replica')}; "
                f"{hosts - len(faults)} of {counted(hosts, 'sentinel')} answer, "
                f"quorum {details.get('quorum', 'unknown')}",
            )
        ]
        found += [
            Finding(
                subject=subject,
                text=f"a sentinel does not answer: {fault}",
                level=Level.DOUBT,
                mend="start it, or take it out of redis.url",
            )
            for fault in faults
        ]
        if details and not replicas:
            found.append(
                Finding(
                    subject=subject,
                    text="has no replica, so nothing takes its place",
                    level=Level.DOUBT,
                    mend="start a server with replicaof",
                )
            )
        if details and others + 1 < FEWEST:
            found.append(
                Finding(
                    subject=subject,
                    text=f"is watched by {counted(others + 1, 'sentinel')} only",
                    level=Level.DOUBT,
                    mend=f"run {FEWEST}, on machines of their own",
                )
            )
        return found

    async def move(self, address: Address) -> None:
        """Use ADDRESS from now on, as ``Several.move``."""
        await super().move(address)
        sentinels, self._sentinels = self._sentinels, {}
        for sentinel in sentinels.values():
            await sentinel.aclose()

    async def disconnect(self) -> None:
        """Close all connections."""
        await super().disconnect()
        for sentinel in list(self._sentinels.values()):
            await sentinel.disconnect()

    async def aclose(self) -> None:
        """Close everything for good."""
        await super().aclose()
        for sentinel in list(self._sentinels.values()):
            await sentinel.aclose()

    def _found(self) -> Server:
        if self._master is None:
            raise PublicationUnavailable(f"Redis at {self.where}: the master is not found yet")
        return self._master

    async def _look(self) -> Place:
        """The master by what is newest among the answers of most sentinels."""
        return self._newest(*await self._ask()).place

    async def _ask(self) -> tuple[dict[Place, list[Any]], list[str]]:
        if not self._sentinels:
            self._sentinels = {
                place: Server(self._address.sentinel_at(*place)) for place in self._many.hosts
            }
        name = self._many.master
        asked = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name), ("SENTINEL", "MASTER", name)]
        return await ask_most(self._sentinels, asked)

    def _newest(self, answers: Mapping[Place, list[Any]], faults: Sequence[str]) -> _Named:
        """Raises ``PublicationUnavailable`` if no answer names a master."""
        named: list[_Named] = []
        reasons = list(faults)
        knows_no_such_name = False
        for place, (found, details) in answers.items():
            if isinstance(found, Exception):
                reasons.append(f"{located(*place)}: {describe(found)}")
            elif found is None:
                knows_no_such_name = True
            else:
                host, port = (part.decode() for part in found)
                named.append(_Named((host, int(port)), _decoded(details)))
        if named:
            return max(named, key=lambda one: one.epoch)
        where = f"Redis at {self._address.shown}"
        if knows_no_such_name:
            raise PublicationUnavailable(f"{where}: the sentinels know no master of this name")
        raise PublicationUnavailable(f"{where}: no sentinel answers: {'; '.join(reasons)}")


async def _master_of_replica(server: Server) -> Place | None:
    """Which master SERVER follows; None if it is one, or does not say."""
    try:
        with anyio.fail_after(ROLE_WITHIN):
            role, *rest = await server.execute("ROLE")
    except (PublicationUnavailable, TimeoutError):
        return None  # whoever writes to it will say why it cannot
    if role != b"slave":
        return None
    host, port = rest[:2]
    return host.decode(), int(port)


def _decoded(details: Any) -> dict[str, str]:
    if not isinstance(details, Mapping):
        return {}  # refused
    return {key.decode(): value.decode(errors="replace") for key, value in details.items()}
