"""What servers tell of themselves, kept in the vault and asked for again in the background.

A start needs no network: it goes on with the metadata of last time. What a server tells
anew counts at once, but for one thing: nothing that carries secrets moves to another host
until a person has said that it may (``completion.moved``).
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import anyio

from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.completion import (
    SECRET_ENDS_SOON,
    changes,
    completed,
    doubts,
    is_registered,
    moved,
)
from refresher.domain.discovery import NOTHING_KNOWN, Known, Metadata, Registration
from refresher.domain.repairs import proof_demanded
from refresher.errors import AuthorizationFailed, DiscoveryFailed, VaultUnavailable
from refresher.logs import Event, emit
from refresher.vault.vault import Vault

READ_EVERY = 86_400.0
"""Seconds between two readings of a server's metadata, up to a tenth less, so that many
clients do not ask at once."""

RECENT = 3_600.0
"""Seconds for which a login takes metadata for what they are; older ones are read again."""

FIRST_RETRY, LAST_RETRY = 5.0, 300.0
"""Seconds after which what cannot be read is tried again: twice as long each time."""

READ_AT_ONCE = 4

ReadMetadata = Callable[[Client, float], Awaitable[Metadata]]
"""Raises ``DiscoveryFailed``."""


@dataclass(slots=True)
class _Following:
    """How it went with the metadata of one client in this process."""

    next_at: float = 0.0
    """Monotonic."""
    failures: int = 0
    fault: str | None = None
    moves: list[str] = field(default_factory=list)
    reading: anyio.Lock = field(default_factory=anyio.Lock)
    """Who wants a reading while one is under way waits for it, and then looks again."""


class Discovering:
    """Completes clients with what their servers tell, and keeps that.

    Args:
        read: asks the server of a client.
        clients: exchanged in place.
        exchange: lets a client count in the place of the one before.
    """

    def __init__(
        self,
        *,
        vault: Vault,
        read: ReadMetadata,
        clients: Mapping[str, Client],
        exchange: Callable[[Client], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._vault = vault
        self._read = read
        self._clients = clients
        self._exchange = exchange
        self._clock = clock
        self._known: dict[str, Known] = {}
        self._following: dict[str, _Following] = {}
        self._wanted = anyio.Event()

    async def recalled(self, clients: Mapping[str, Client]) -> dict[str, Client]:
        """CLIENTS, those of the settings, with what the vault keeps of their servers.

        Raises:
            VaultUnavailable: it cannot be read now.
        """
        names = [name for name, client in clients.items() if client.discovery is not None]
        self._known, self._following = {}, {}
        if names:
            self._known, unopened = await self._vault.client_records.known(names)
            for name in unopened:
                reason = "what the vault keeps of it does not open, and is asked for again"
                emit(Event.METADATA_MISSED, client=name, reason=reason)
        self._wanted.set()
        return {
            name: completed(client, self.known(name)) if client.discovery else client
            for name, client in clients.items()
        }

    async def run(self) -> None:
        """Read what is old, and tell of secrets that end, for ever."""
        while True:
            self._wanted = anyio.Event()
            limit = anyio.CapacityLimiter(READ_AT_ONCE)
            async with anyio.create_task_group() as tasks:
                for name in self._due():
                    tasks.start_soon(self._follow, name, limit)
            now = self._clock.monotonic()
            pauses = [self._follower(name).next_at - now for name in self._open()]
            with anyio.move_on_after(max(0.0, min([*pauses, RECENT]))):
                await self._wanted.wait()

    def known(self, name: str) -> Known:
        """What is known of the server of the client NAME."""
        return self._known.get(name, NOTHING_KNOWN)

    def doubts(self, client: Client) -> list[str]:
        """What a person should do about CLIENT."""
        following = self._follower(client.name)
        told = list(doubts(client, self.known(client.name), self._clock.now()))
        if following.moves:
            told.append(self._refusal(client.name, following.moves))
        elif following.fault is not None:
            told.append(following.fault)
        return told

    async def ready(self, client: Client) -> Client:
        """CLIENT as a login can use it, its metadata read again if they are old.

        Raises:
            AuthorizationFailed: nothing is known of its server, or its tokens would be of no use;
                says what to do.
        """
        if client.discovery is None:
            return client
        if client.discovery.source is not None:
            try:
                async with self._follower(client.name).reading:
                    if not self._is_recent(client.name):
                        await self._discover(client)
            except DiscoveryFailed:
                if not client.endpoints.token:
                    raise
        known = self.known(client.name)
        for each in (known.metadata, known.registration):
            if each is not None and each.demands_proof:
                raise AuthorizationFailed(proof_demanded(client.name))
        return self._clients.get(client.name, client)

    async def discover(
        self, client: Client, *, accept: bool = False, is_ordered: bool = False
    ) -> None:
        """Read the metadata of the server of CLIENT, and let them count.

        Args:
            accept: a person has said that endpoints may be on other hosts than before.
            is_ordered: a person wants just that; it stands in the vault's log, whatever comes.

        Raises:
            DiscoveryFailed: they cannot be had; says what to do.
            VaultUnavailable: they cannot be kept, and do not count.
        """
        async with self._follower(client.name).reading:
            await self._discover(client, accept=accept, is_ordered=is_ordered)

    async def _discover(
        self, client: Client, *, accept: bool = False, is_ordered: bool = False
    ) -> None:
        """The same for whoever holds ``reading``."""
        following, wanted = self._follower(client.name), client.discovery
        assert wanted is not None
        try:
            metadata = await self._read(client, self._clock.now())
        except DiscoveryFailed as error:
            self._missed(client, following, error)
            raise
        following.failures, following.fault = 0, None
        following.next_at = self._clock.monotonic() + READ_EVERY * (1 - self._clock.draw() / 10)
        before = self.known(client.name).metadata
        if before is not None and before.source != metadata.source:
            before = None
        moves = [] if before is None or accept else moved(before, metadata, wanted.told)
        if moves:
            if moves != following.moves:
                reason, repair = "; ".join(moves), self._refusal(client.name, moves)
                emit(Event.METADATA_REFUSED, client=client.name, reason=reason, repair=repair)
            following.moves = moves
            return
        following.moves = []
        await self._take(client, before, metadata, is_ordered=is_ordered)

    async def keep(self, client: Client, registration: Registration) -> Client:
        """Keep REGISTRATION and let it count; CLIENT with it.

        Raises:
            VaultUnavailable: it is not kept.
        """
        await self._vault.client_records.keep_registration(client.name, registration)
        self._known[client.name] = replace(self.known(client.name), registration=registration)
        return await self._complete(client.name)

    async def _take(
        self, client: Client, before: Metadata | None, metadata: Metadata, *, is_ordered: bool
    ) -> None:
        current = self._clients.get(client.name)
        if current is None or current.discovery != client.discovery:
            return  # the settings were loaded again meanwhile
        changed = [] if before is None else changes(before, metadata)
        detail = metadata.issuer if before is None else ", ".join(changed) or None
        if is_ordered and detail is None:
            detail = "nothing has changed"
        await self._vault.client_records.keep_metadata(client.name, metadata, detail=detail)
        self._known[client.name] = replace(self.known(client.name), metadata=metadata)
        if before is None:
            emit(Event.METADATA_READ, client=client.name, server=metadata.issuer)
        elif changed:
            told = ", ".join(f"{key}: {metadata.endpoints.get(key, 'none')}" for key in changed)
            emit(Event.METADATA_CHANGED, client=client.name, reason=told)
        await self._complete(client.name)

    async def _complete(self, name: str) -> Client:
        current = self._clients[name]
        client = completed(current, self.known(name))
        if client != current:
            await self._exchange(client)
        return client

    def _is_recent(self, name: str) -> bool:
        metadata = self.known(name).metadata
        return metadata is not None and 0 <= self._clock.now() - metadata.read_at < RECENT

    def _open(self) -> list[str]:
        return [name for name, client in self._clients.items() if client.discovery is not None]

    def _due(self) -> list[str]:
        now = self._clock.monotonic()
        return [name for name in self._open() if self._follower(name).next_at <= now]

    def _follower(self, name: str) -> _Following:
        """How it goes with NAME; at first that follows from the age of what the vault keeps.

        A registered client is looked at once in each process: its secret may be about to end.
        """
        if name not in self._following:
            known, next_at = self.known(name), self._clock.monotonic()
            if known.metadata is not None and known.registration is None:
                age = max(0.0, self._clock.now() - known.metadata.read_at)
                next_at += max(0.0, READ_EVERY - age)
            self._following[name] = _Following(next_at=next_at)
        return self._following[name]

    async def _follow(self, name: str, limit: anyio.CapacityLimiter) -> None:
        async with limit:
            client, following = self._clients.get(name), self._follower(name)
            if client is None or client.discovery is None:
                return
            self._tell_of_the_end(client)
            async with following.reading:
                if following.next_at > self._clock.monotonic():
                    return  # read meanwhile
                following.next_at = self._clock.monotonic() + READ_EVERY
                if client.discovery.source is not None:
                    with suppress(DiscoveryFailed):  # told, and tried again
                        try:
                            await self._discover(client)
                        except VaultUnavailable:  # told as an outage
                            following.next_at = self._clock.monotonic() + FIRST_RETRY

    def _tell_of_the_end(self, client: Client) -> None:
        registration = self.known(client.name).registration
        if registration is None or not is_registered(client, registration):
            return
        end = registration.client_secret_expires_at
        if end is not None and end - self._clock.now() <= SECRET_ENDS_SOON:
            [repair, *_] = [each for each in self.doubts(client) if "client secret" in each]
            emit(Event.REGISTRATION_ENDING, client=client.name, ends_at=end, repair=repair)

    def _missed(self, client: Client, following: _Following, error: DiscoveryFailed) -> None:
        if following.fault != str(error):
            emit(Event.METADATA_MISSED, client=client.name, reason=str(error))
        following.fault = str(error)
        following.failures += 1
        pause = min(LAST_RETRY, FIRST_RETRY * 2 ** min(following.failures - 1, 10))
        if client.endpoints.token:
            pause = RECENT  # what is known goes on counting
        following.next_at = self._clock.monotonic() + pause

    @staticmethod
    def _refusal(name: str, moves: list[str]) -> str:
        return (
            f"the metadata of client {name} move {'; '.join(moves)}: nothing is sent there. If its "
            f"provider says so too: refresher discover {name} --accept"
        )


async def not_asked(client: Client, _now: float) -> Metadata:
    """For whoever only looks at what the vault keeps."""
    raise DiscoveryFailed(f"the server of client {client.name} is asked by a daemon", passes=True)


def looking_at(vault: Vault, clients: Mapping[str, Client], clock: Clock) -> Discovering:
    """What is kept of the servers of CLIENTS, and nothing more."""

    async def exchange(_: Client) -> None:
        """Nothing is completed by whoever only looks."""

    return Discovering(vault=vault, read=not_asked, clients=clients, exchange=exchange, clock=clock)
