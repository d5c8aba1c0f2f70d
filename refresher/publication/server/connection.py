"""Clients for one Redis, and the only functions that talk through them.

Two clients: one for commands, whose every wait is short, and one for connections that only
listen. Neither retries: whoever lost a connection publishes everything again, and a write
retried behind our back could arrive after a newer one.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, TypeVar, cast
from urllib.parse import parse_qs, unquote, urlsplit

import anyio
from redis.asyncio import BlockingConnectionPool, Connection, ConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from refresher.domain.findings import Finding
from refresher.domain.redis_urls import ManyServers, is_many, read_many
from refresher.domain.secret import Secret
from refresher.logs import Event, emit
from refresher.publication.server.faults import Unauthenticated, translated
from refresher.publication.server.packing import (
    PackingConnection,
    PackingTLSConnection,
    PackingUnixConnection,
)
from refresher.publication.server.tls import TLSFiles

T = TypeVar("T")

SCHEMES = ("redis", "rediss", "unix")
"""URL schemes that can be used."""

ANSWER_TIME = 1.5
"""Seconds a connection, or an answer to one command, may take."""

DEADLINE = 2.5
"""Seconds one call may take with everything in it: waiting for the pool, connecting."""

POOL_SIZE = 8
"""Connections for commands: the mirror, the inbox and health checks share them."""

OTHER_LAYOUT = "its URL names one server now, or several: that takes a restart of the daemon"

Argument = str | bytes | int | float
Command = Sequence[Argument]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where Redis is and who we are there."""

    url: str = field(repr=False)
    """``redis://``, ``rediss://`` or ``unix://``, or several servers as ``redis_urls`` says; may
    carry a password."""
    username: str | None = None
    password: Secret | None = None
    client_name: str = "refresher"

    @property
    def shown(self) -> str:
        """The server without credentials and options."""
        if self.many is not None:
            return self.many.shown
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return parts.path
        return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"

    @property
    def many(self) -> ManyServers | None:
        """The servers, if the URL names several."""
        return read_many(self.url) if is_many(self.url) else None

    def at(self, host: str, port: int) -> "Address":
        """One server of several that holds data."""
        assert self.many is not None
        return replace(self, url=self.many.url_of(host, port))

    def sentinel_at(self, host: str, port: int) -> "Address":
        """One sentinel, with its own user and password."""
        assert self.many is not None
        username, password = self.many.sentinel
        return replace(
            self,
            url=self.many.sentinel_url_of(host, port),
            username=username or None,
            password=Secret(password) if password else None,
        )

    @property
    def location(self) -> str:
        """The URL without user and password."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    @property
    def credentials(self) -> tuple[str, ...]:
        """User and password, from beside the URL or from inside it, as redis-py wants them."""
        parts = urlsplit(self.url)
        username = self.username or unquote(parts.username or "")
        password = self.password.reveal() if self.password else unquote(parts.password or "")
        if username:
            return username, password
        return (password,) if password else ()


Reread = Callable[[], Awaitable[Address]]
"""Looks at once where the address is kept, and gives what counts from now on."""


class Server:
    """One Redis: sends commands within a deadline and translates every fault.

    Whatever is said below of an address that Redis refuses: it is read again before the
    refusal is believed, because passwords are rotated while the daemon runs.

    Args:
        reread: looks for another address; None where there can be none.
    """

    def __init__(self, address: Address, *, reread: Reread | None = None) -> None:
        self._address = address
        self._reread = reread
        self._lent: set[Connection] = set()
        self._open()

    @property
    def where(self) -> str:
        """The server without credentials, for messages."""
        return self._address.shown

    is_divided = False

    @property
    def masters(self) -> Sequence["Server"]:
        """Itself: see ``Masters``, which one server is as well."""
        return (self,)

    def master_of(self, _key: str) -> "Server":
        """Itself."""
        return self

    async def find(self) -> None:
        """Nothing: it is where its URL says, and stays there."""

    async def follow(self) -> None:
        """Nothing."""

    async def survey(self) -> Sequence[Finding]:
        """Nothing that ``probing`` does not see."""
        return ()

    async def execute(self, *command: Argument) -> Any:
        """Run one command.

        Raises:
            PublicationUnavailable: for whatever keeps it from being answered.
        """
        return await self._authenticated(lambda: self._commands.execute_command(*command))

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Run COMMANDS in one round trip; a refused one has its exception as the reply.

        Raises:
            PublicationUnavailable: for a lost connection or no answer in time. Some of
                COMMANDS may have been executed, or may be yet.
        """
        return await self._authenticated(lambda: self._pipeline(commands)) if commands else []

    async def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        async with self._commands.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            # raise_on_error would quote the arguments in the error's text
            replies: list[Any] = await pipe.execute(raise_on_error=False)
            return replies

    async def open_connection(self) -> Connection:
        """A connection of one's own, to be closed with ``release``.

        Raises:
            PublicationUnavailable: when there is none to be had.
        """
        return await self._authenticated(self._open_connection)

    async def _open_connection(self) -> Connection:
        # Not one of the pool's: it may outlive the pool, when the server moves.
        connection: Any = self._reads.connection_pool.make_connection()
        self._lent.add(connection)
        try:
            await connection.connect()
        except BaseException:
            await self.release(connection)
            raise
        return cast("Connection", connection)

    async def release(self, connection: Connection) -> None:
        """Close CONNECTION: it may be in the middle of an answer."""
        self._lent.discard(connection)
        await connection.disconnect(nowait=True)

    async def move(self, address: Address) -> None:
        """Use ADDRESS from now on.

        Another password counts from the next connection on: those that are open have
        proven themselves. At another server everything begins anew.

        Raises:
            ValueError: as ``open_server``.
        """
        check_address(address)
        if is_many(address.url):
            emit(Event.REDIS_DOUBTED, server=self.where, reason=OTHER_LAYOUT)
            return
        before, self._address = self._address, address
        if address.location != before.location:
            pools = [client.connection_pool for client in (self._commands, self._reads)]
            self._open()
            for old in (*pools, *self._lent):
                await old.disconnect()

    async def disconnect(self) -> None:
        """Close all connections; the next command opens a new one."""
        for client in (self._commands, self._reads):
            await client.connection_pool.disconnect(inuse_connections=False)

    async def aclose(self) -> None:
        """Close everything for good."""
        await self._commands.aclose()
        await self._reads.aclose()

    def _open(self) -> None:
        """Two clients for the address; nothing is sent yet."""
        options: dict[str, Any] = {
            "client_name": self._address.client_name,
            "socket_connect_timeout": ANSWER_TIME,
            "decode_responses": False,
            "protocol": 3,
            "retry": Retry(NoBackoff(), 0),
            "credential_provider": Credentials(lambda: self._address),
            **parse_url(self._address.location),
        }
        match urlsplit(self._address.url).scheme:
            case "rediss":
                options |= {"connection_class": PackingTLSConnection, "files": TLSFiles()}
            case "unix":
                options["connection_class"] = PackingUnixConnection
            case _:
                options["connection_class"] = PackingConnection
        commands = BlockingConnectionPool(
            max_connections=POOL_SIZE, timeout=ANSWER_TIME, socket_timeout=ANSWER_TIME, **options
        )
        # redis-py leaves the methods that take any command untyped
        self._commands: Any = Redis.from_pool(commands)
        self._reads: Any = Redis.from_pool(ConnectionPool(socket_timeout=None, **options))

    async def _authenticated(self, call: Callable[[], Awaitable[T]]) -> T:
        """Await CALL, and once more if Redis refuses an address that is not the newest.

        A refused command was not executed, so it may be sent again.
        """
        used = self._address
        try:
            return await self._once(call)
        except Unauthenticated:
            # Time of its own: a command that gives the password may take longer than CALL.
            if self._reread is not None and used.credentials == self._address.credentials:
                await self.move(await self._reread())
            if used == self._address:
                raise
        return await self._once(call)

    async def _once(self, call: Callable[[], Awaitable[T]]) -> T:
        with translated(self.where), anyio.fail_after(DEADLINE):
            return await call()


def check_address(address: Address) -> None:
    """Refuse an ADDRESS that cannot be used.

    Raises:
        ValueError: says why and never quotes it.
    """
    if is_many(address.url):
        try:
            many = read_many(address.url)
        except ValueError as error:
            raise ValueError(f"Redis URL: {error}") from None
        check_address(address.at(*many.hosts[0]))
        return
    try:
        parts = urlsplit(address.url)
        parts.port  # noqa: B018  it is parsed, and quoted by its error, when it is read
    except ValueError:
        raise ValueError(
            "Redis URL: cannot be read; percent-encode / ? # and @ in user name and password"
        ) from None
    if parts.scheme not in SCHEMES:
        allowed = ", ".join(f"{known}://" for known in SCHEMES)
        raise ValueError(f"Redis URL: {parts.scheme or 'no scheme'} is not one of {allowed}")
    for option in parse_qs(parts.query):
        if option != "db" and not option.startswith("ssl_"):
            raise ValueError(f"Redis URL: option {option} is not one of db and ssl_...")
    if parts.password and address.password is not None:
        raise ValueError("Redis URL: the password is given twice, in the URL and beside it")
    parse_url(address.location)


class Credentials(CredentialProvider):
    """Gives each new connection the user and the password of just now."""

    def __init__(self, address: Callable[[], Address]) -> None:
        self._address = address

    async def get_credentials_async(self) -> Any:
        """None of both make redis-py send none; its own types know only one or two."""
        return self._address().credentials

    def get_credentials(self) -> NoReturn:
        raise NotImplementedError("only asynchronous clients are made here")
