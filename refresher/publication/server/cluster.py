"""The masters of a cluster: each command goes to the one that has the slot of its key.

Every key of the contract is touched alone, so no command crosses slots and the names need no
hash tags; PUBLISH reaches subscribers at every node. While slots move, commands follow the
redirections of the servers (MOVED, ASK). Other masters, and slots that have come to rest
elsewhere, begin a new session: what an interrupted move or a lost master took is written again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import anyio
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError

from refresher.domain.findings import Finding, Level
from refresher.domain.redis_urls import located
from refresher.errors import PublicationUnavailable
from refresher.publication.server.connection import Address, Argument, Command, Reread, Server
from refresher.publication.server.faults import Moved, Refused, describe, unavailable
from refresher.publication.server.masters import LOOK_EVERY, Place, Several, ask_most, counted

REDIRECTIONS = 5
"""Times one command is sent elsewhere; then the nodes are asked anew who has what."""

RESTED = 6
"""Looks in a row that find the slots where they were, after which they have come to rest."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Who has which slots, as one node sees it."""

    ranges: tuple[tuple[int, int, Place], ...]
    replicas: Mapping[Place, int]
    """How many each master has."""
    nodes: frozenset[Place]
    is_ok: bool = True
    epoch: int = 0
    """Grows with every failover."""

    @property
    def masters(self) -> frozenset[Place]:
        """Those that have a slot."""
        return frozenset(place for _, _, place in self.ranges)

    @property
    def covered(self) -> int:
        """Slots that some node has."""
        return sum(last - first + 1 for first, last, _ in self.ranges)


class Cluster(Several):
    """The masters of one cluster; see ``Masters``."""

    is_divided = True

    def __init__(self, address: Address, *, reread: Reread | None = None) -> None:
        super().__init__(address, reread=reread)
        self._layout: Layout | None = None
        self._owners: list[Place | None] = []
        self._masters: tuple[Server, ...] = ()

    @property
    def where(self) -> str:
        """The nodes that the URL names."""
        return self._address.shown

    @property
    def masters(self) -> Sequence[Server]:
        """Those that had slots when they were found, and who got some since."""
        self._found()
        return self._masters

    def master_of(self, key: str) -> Server:
        """Who has the slot of KEY.

        Raises:
            PublicationUnavailable: nobody has.
        """
        return self._server(self._owner(key_slot(key.encode())))

    async def execute(self, *command: Argument) -> Any:
        """Run one command on one key.

        Raises:
            PublicationUnavailable: for whatever keeps it from being answered.
        """
        (reply,) = await self.pipeline([command])
        if isinstance(reply, Exception):
            raise unavailable(reply, self.where)
        return reply

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Run COMMANDS, those of one slot in their order; of several nodes at the same time.

        Raises:
            PublicationUnavailable: for what one node did not answer. Any of COMMANDS may have
                been executed, or may be yet.
            Moved: a node that is no master yet has some of the keys.
        """
        replies: list[Any] = [None] * len(commands)
        slots = [_slot_of(command) for command in commands]
        unanswered: Iterable[int] = range(len(commands))
        for _ in range(REDIRECTIONS):
            routes: dict[Place, list[int]] = {}
            for at in unanswered:
                routes.setdefault(self._owner(slots[at]), []).append(at)
            await self._send(routes, commands, replies)
            unanswered = [at for at in unanswered if isinstance(replies[at], MovedError)]
            if not unanswered:
                return replies
            for at in unanswered:
                self._learn(replies[at])
        raise Moved("the nodes of the cluster do not agree about its slots")

    async def find(self) -> None:
        """Ask the nodes who has which slots.

        Raises:
            PublicationUnavailable: no node knows.
        """
        layout = await self._look()
        if not layout.ranges:
            raise Refused(
                f"Redis at {self.where}: no node of the cluster has a slot", "CLUSTERDOWN"
            )
        self._adopt(layout)
        self._masters = tuple(map(self._server, sorted(layout.masters)))
        known = {*layout.nodes, *self._many.hosts}
        await self._forget([place for place in self._servers if place not in known])

    async def follow(self) -> None:
        """Ask one master after the other who has which slots.

        Raises:
            Moved: others are masters, or slots have moved and come to rest.
        """
        began = self._found()
        rested = 0
        for turn in count():
            await anyio.sleep(LOOK_EVERY)
            if self._layout is None:
                raise Moved("its URL names other nodes")
            asked = sorted(began.masters)[turn % len(began.masters)]
            try:
                layout = await self._look([asked])
                if layout.masters != began.masters:
                    layout = await self._look()  # one node may be late to know
            except PublicationUnavailable:
                continue  # whoever needs it notices
            if layout.masters != began.masters:
                raise Moved("its masters are others now")
            before = self._found()
            rested = rested + 1 if layout.ranges == before.ranges else 0
            self._adopt(layout)
            if layout.ranges != began.ranges and rested >= RESTED:
                raise Moved("its slots have moved")

    async def survey(self) -> Sequence[Finding]:
        """Nodes, masters, replicas and slots.

        Raises:
            PublicationUnavailable: no node answers.
        """
        layout = await self._look()
        subject = f"Redis {self.where}"
        masters, replicas = len(layout.masters), sum(layout.replicas.values())
        is_whole = layout.is_ok and layout.covered == SLOTS
        text = (
            f"has {counted(masters, 'master')} and {counted(replicas, 'replica')}; "
            f"{layout.covered} of {SLOTS} slots have a node"
        )
        found = [Finding(subject=subject, text=text)]
        if not is_whole:
            found = [
                Finding(
                    subject=subject,
                    text=f"{text}; cluster_state is {'ok' if layout.is_ok else 'fail'}",
                    level=Level.PROBLEM,
                    mend="see CLUSTER SHARDS; give each slot a node that runs",
                )
            ]
        found += [
            Finding(
                subject=subject,
                text=f"the master {located(*place)} has no replica, so nothing takes its place",
                level=Level.DOUBT,
                mend="add one: redis-cli --cluster add-node ... --cluster-slave",
            )
            for place in sorted(layout.masters)
            if not layout.replicas.get(place)
        ]
        return found

    async def move(self, address: Address) -> None:
        """Use ADDRESS from now on, as ``Several.move``."""
        hosts = self._many.hosts
        await super().move(address)
        if self._many.hosts != hosts:
            self._layout = None  # nodes of another cluster must not be asked about this one

    def _found(self) -> Layout:
        if self._layout is None:
            raise PublicationUnavailable(f"Redis at {self.where}: its nodes are not found yet")
        return self._layout

    def _owner(self, slot: int) -> Place:
        self._found()
        owner = self._owners[slot]
        if owner is None:
            text = f"Redis at {self.where}: no node of the cluster has the slot of a key"
            raise Refused(text, "CLUSTERDOWN")
        return owner

    def _adopt(self, layout: Layout) -> None:
        """Send commands as LAYOUT says."""
        owners: list[Place | None] = [None] * SLOTS
        for first, last, place in layout.ranges:
            owners[first : last + 1] = [place] * (last - first + 1)
        self._layout, self._owners = layout, owners

    def _learn(self, redirection: MovedError) -> None:
        """A slot has another owner than we thought."""
        place = redirection.host, redirection.port
        if place not in self._found().masters:
            raise Moved(f"{located(*place)} is one of its masters now")
        self._owners[redirection.slot_id] = place

    async def _send(
        self, routes: Mapping[Place, Sequence[int]], commands: Sequence[Command], replies: list[Any]
    ) -> None:
        """Fill in REPLIES for the commands of ROUTES, all nodes at once."""
        lost: list[PublicationUnavailable] = []

        async def send(place: Place, chosen: Sequence[int]) -> None:
            try:
                answered = await self._server(place).pipeline([commands[at] for at in chosen])
                for at, reply in zip(chosen, answered, strict=True):
                    replies[at] = reply
                    if isinstance(reply, AskError):
                        reply.host = reply.host or place[0]
                        if not isinstance(reply, MovedError):
                            replies[at] = await self._ask(reply, commands[at])
            except PublicationUnavailable as error:
                lost.append(error)

        if len(routes) == 1:
            await send(*next(iter(routes.items())))
        else:
            async with anyio.create_task_group() as group:
                for place, chosen in routes.items():
                    group.start_soon(send, place, chosen)
        if lost:
            raise lost[0]

    async def _ask(self, redirection: AskError, command: Command) -> Any:
        """Send COMMAND where its slot is moving to: its key is there, or will be."""
        target = self._server((redirection.host, redirection.port))
        if target not in self._masters:
            self._masters += (target,)  # it gets the scripts
        _, reply = await target.pipeline([("ASKING",), command])
        return reply

    async def _look(self, places: Iterable[Place] = ()) -> Layout:
        """The newest view of most nodes, or of PLACES alone."""
        known = frozenset() if self._layout is None else self._layout.nodes
        asked = places or {*self._many.hosts, *known}
        servers = {place: self._server(place) for place in asked}
        answers, faults = await ask_most(servers, [("CLUSTER", "SLOTS"), ("CLUSTER", "INFO")])
        layouts = []
        for place, (slots, info) in answers.items():
            if isinstance(slots, Exception):
                faults.append(f"{located(*place)}: {describe(slots)}")
            else:
                layouts.append(_layout(slots, info, place))
        if not layouts:
            reasons = "; ".join(faults)
            raise PublicationUnavailable(f"Redis at {self.where}: no node answers: {reasons}")
        return max(layouts, key=lambda one: (one.is_ok, one.epoch, one.covered))


def _slot_of(command: Command) -> int:
    """The slot of the one key of COMMAND; a channel has the slot of its name."""
    key = command[3] if command[0] == "EVALSHA" else command[1]
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


def _layout(slots: Sequence[Any], info: Any, asked: Place) -> Layout:
    """What ASKED answered to CLUSTER SLOTS and CLUSTER INFO, which may be refused."""
    ranges: list[tuple[int, int, Place]] = []
    nodes: set[Place] = {asked}
    replicas: dict[Place, int] = {}
    for first, last, master, *others in slots:
        place = _place(master, asked)
        ranges.append((first, last, place))
        nodes |= {place, *(_place(other, asked) for other in others)}
        replicas[place] = len(others)
    told = {} if isinstance(info, Exception) else _fields(info)
    return Layout(
        ranges=tuple(sorted(ranges)),
        replicas=replicas,
        nodes=frozenset(nodes),
        is_ok=told.get("cluster_state", "ok") == "ok",
        epoch=int(told.get("cluster_current_epoch", 0)),
    )


def _place(node: Sequence[Any], asked: Place) -> Place:
    """Where NODE is; one that does not know its name is where it was asked."""
    host = (node[0] or b"").decode()
    return (asked[0] if host in {"", "?"} else host), int(node[1])


def _fields(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode().splitlines())
    return {field: value for field, _, value in lines}
