"""Clients for one Redis, and the only functions that talk through them.

Two clients: one for commands, whose every wait is short, and one for reads that block on
purpose. Neither retries: whoever lost a connection publishes everything again, and a
write retried behind our back could arrive after a newer one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import anyio
from redis.asyncio import BlockingConnectionPool, Connection, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from refresher.domain.secret import Secret
from refresher.errors import PublicationUnavailable, RefresherError
from refresher.publication.faults import translated

SCHEMES = ("redis", "rediss", "unix")
"""URL schemes that can be used."""

ANSWER_TIME = 1.5
"""Seconds a connection, or an answer to one command, may take."""

DEADLINE = 2.5
"""Seconds one call may take with everything in it: waiting for the pool, connecting."""

POOL_SIZE = 8
"""Connections for commands: the mirror, the inbox and health checks share them."""

Argument = str | bytes | int | float
Command = Sequence[Argument]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where Redis is and who we are there."""

    url: str = field(repr=False)
    """``redis://``, ``rediss://`` or ``unix://``; may carry a password."""
    username: str | None = None
    password: Secret | Callable[[], Secret | None] | None = None
    """A callable is asked again at each connect: a rotated password needs no restart."""
    client_name: str = "refresher"

    @property
    def shown(self) -> str:
        """The server without credentials and options."""
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return parts.path
        return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"


class Server:
    """One Redis: sends commands within a deadline and translates every fault.

    Args:
        commands: client for short commands.
        reads: client for blocking reads and long-lived connections.
        where: the server without credentials, for messages.
    """

    def __init__(self, *, commands: Redis, reads: Redis, where: str) -> None:
        # redis-py leaves the methods that take any command untyped
        self._commands: Any = commands
        self._reads: Any = reads
        self.where = where

    async def execute(self, *command: Argument) -> Any:
        """Run one command.

        Raises:
            PublicationUnavailable: for whatever keeps it from being answered.
        """
        with translated(self.where), anyio.fail_after(DEADLINE):
            return await self._commands.execute_command(*command)

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Run COMMANDS in one round trip; a refused one has its exception as the reply.

        Raises:
            PublicationUnavailable: for a lost connection or no answer in time. Some of
                COMMANDS may have been executed, or may be yet.
        """
        if not commands:
            return []
        with translated(self.where), anyio.fail_after(DEADLINE):
            async with self._commands.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                # raise_on_error would quote the arguments in the error's text
                replies: list[Any] = await pipe.execute(raise_on_error=False)
                return replies

    async def wait_for(self, *command: Argument, seconds: float) -> Any:
        """Run one command that blocks for up to SECONDS on the server.

        Raises:
            PublicationUnavailable: also when the server stays silent for longer.
        """
        with translated(self.where), anyio.fail_after(seconds + DEADLINE):
            return await self._reads.execute_command(*command)

    async def open_connection(self) -> Connection:
        """A connection of one's own, to be given back with ``release``.

        Raises:
            PublicationUnavailable: when there is none to be had.
        """
        with translated(self.where), anyio.fail_after(DEADLINE):
            connection: Connection = await self._reads.connection_pool.get_connection()
            return connection

    async def release(self, connection: Connection) -> None:
        """Close CONNECTION: it may be in the middle of an answer."""
        await connection.disconnect(nowait=True)
        await self._reads.connection_pool.release(connection)

    async def disconnect(self) -> None:
        """Close all connections; the next command opens a new one."""
        for client in (self._commands, self._reads):
            await client.connection_pool.disconnect(inuse_connections=False)

    async def aclose(self) -> None:
        """Close everything for good."""
        await self._commands.aclose()
        await self._reads.aclose()


def open_server(address: Address) -> Server:
    """The server at ADDRESS; nothing is sent before the first command.

    Raises:
        ValueError: for a URL that cannot be used; says why and never quotes it.
    """
    try:
        parts = urlsplit(address.url)
        parts.port  # noqa: B018  it is parsed, and quoted by its error, when it is read
    except ValueError:
        raise ValueError(
            "Redis URL: cannot be read; percent-encode / ? # and @ in user name and password"
        ) from None
    match parts.scheme:
        case "redis" | "rediss" | "unix":
            return _single_server(address, parts)
        case _:
            allowed = ", ".join(f"{known}://" for known in SCHEMES)
            raise ValueError(f"Redis URL: {parts.scheme or 'no scheme'} is not one of {allowed}")


def _single_server(address: Address, parts: SplitResult) -> Server:
    for option in parse_qs(parts.query):
        if option != "db" and not option.startswith("ssl_"):
            raise ValueError(f"Redis URL: option {option} is not one of db and ssl_...")
    options: dict[str, Any] = {
        "client_name": address.client_name,
        "socket_connect_timeout": ANSWER_TIME,
        "decode_responses": False,
        "protocol": 3,
        "retry": Retry(NoBackoff(), 0),
        "credential_provider": _credentials(address, parts),
    }
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    commands = BlockingConnectionPool.from_url(
        bare,
        max_connections=POOL_SIZE,
        timeout=ANSWER_TIME,
        socket_timeout=ANSWER_TIME,
        **options,
    )
    reads = ConnectionPool.from_url(bare, socket_timeout=None, **options)
    return Server(
        commands=Redis.from_pool(commands), reads=Redis.from_pool(reads), where=address.shown
    )


def _credentials(address: Address, parts: SplitResult) -> "Credentials | None":
    """From beside the URL, or from inside it; both may share the work."""
    inside = Secret(unquote(parts.password)) if parts.password else None
    if inside is not None and address.password is not None:
        raise ValueError("Redis URL: the password is given twice, in the URL and beside it")
    username = address.username or (unquote(parts.username) if parts.username else None)
    password = address.password or inside
    return Credentials(username, password) if username or password else None


class Credentials(CredentialProvider):
    """Reads the password again at each connect."""

    def __init__(
        self, username: str | None, password: Secret | Callable[[], Secret | None] | None
    ) -> None:
        self._username = username
        self._password = password

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        try:
            password = self._password() if callable(self._password) else self._password
        except (OSError, RefresherError) as error:
            raise PublicationUnavailable("the password of Redis cannot be read now") from error
        revealed = password.reveal() if password else ""
        return (self._username, revealed) if self._username else (revealed,)

    def get_credentials(self) -> NoReturn:
        raise NotImplementedError("only asynchronous clients are made here")
