"""Token endpoints that do their worst: ``python -m tests.hostile.servers LIFETIME``.

One process for all of them, so that what they compute is no burden of the daemon's. It tells
its ports as JSON on the first line of standard output. The path says which kind answers,
and which client asks: ``/slow/2``.
"""

import asyncio
import json
import secrets
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import parse_qs

SHORT_LIFE = 1
"""Seconds a token of a slow server lives."""

SLOW_AFTER = (0.2, 1.5, 4.5, 20.0)
"""Seconds after which slow servers answer, well, by the number of the client."""

REFUSED = "refused"
"""How the refresh tokens begin of accounts that may not use their client any more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What one token request said."""

    kind: str
    client: int
    refresh_token: str
    lifetime: float
    """Seconds a good token lives."""


Serve = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


async def _slow(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answers well, late, and with a token that ends at once: no failure, and never idle."""
    await asyncio.sleep(SLOW_AFTER[asked.client % len(SLOW_AFTER)])
    await _tell(writer, 200, _tokens(asked, SHORT_LIFE))


async def _interim(_: Asked, writer: asyncio.StreamWriter) -> None:
    """Says 100 Continue for ever."""
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1024)
        await writer.drain()


async def _header(_: Asked, writer: asyncio.StreamWriter) -> None:
    """Never ends its first header line."""
    writer.write(b"HTTP/1.1 200 OK\r\nX-Endless: ")
    while True:
        writer.write(b"x" * 4096)
        await writer.drain()


async def _json(_: Asked, writer: asyncio.StreamWriter) -> None:
    """Sends a head that no library reads, JSON that never closes, and then a byte at a time."""
    writer.write(b"HTTP/1.1 200 OK\r\nOdd\0Name\r\n\r\n" + b'{"a":[' * 8 + b"1," * 150_000)
    while True:
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.write(b"1,")


async def _trickle(_: Asked, writer: asyncio.StreamWriter) -> None:
    """Sends ten bytes of header lines a second, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        for byte in b"X-Slow: 1\r\n":
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0.1)


async def _silent(_: Asked, __: asyncio.StreamWriter) -> None:
    """Takes the request, and never answers."""
    await asyncio.Event().wait()


async def _empty(_: Asked, writer: asyncio.StreamWriter) -> None:
    """Refuses without a word."""
    await _tell(writer, 400, None)


async def _broken(_: Asked, writer: asyncio.StreamWriter) -> None:
    """Is out of order."""
    await _tell(writer, 500, {"message": "Internal Server Error"})


async def _counts(_: Asked, writer: asyncio.StreamWriter) -> None:
    """Is for whoever counts: how many requests of each kind there were."""
    await _tell(writer, 200, _ASKED)


async def _half(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Serves every account once, and after that half of them only."""
    is_served_before = "." in asked.refresh_token
    if asked.refresh_token.startswith(REFUSED) and is_served_before:
        await _tell(writer, 403, {"error": "unauthorized_client"})
    else:
        await _tell(writer, 200, _tokens(asked, asked.lifetime))


KINDS: Mapping[str, Serve] = {
    "slow": _slow,
    "interim": _interim,
    "header": _header,
    "json": _json,
    "trickle": _trickle,
    "silent": _silent,
    "empty": _empty,
    "broken": _broken,
    "half": _half,
    "counts": _counts,
}

_ASKED: Counter[str] = Counter()


def _tokens(asked: Asked, lifetime: float) -> dict[str, object]:
    """A good answer that rotates; the name before the dot stays."""
    return {
        "access_token": secrets.token_urlsafe(24),
        "token_type": "Bearer",
        "expires_in": lifetime,
        "refresh_token": f"{asked.refresh_token.partition('.')[0]}.{secrets.token_urlsafe(24)}",
    }


async def _tell(
    writer: asyncio.StreamWriter, status: int, content: Mapping[str, object] | None
) -> None:
    body = b"" if content is None else json.dumps(content).encode()
    head = f"HTTP/1.1 {status} Word\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()


async def serve(lifetime: float) -> None:
    """Serve until the process ends; healthy tokens live LIFETIME seconds."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                asked = await _read(reader, lifetime)
                await KINDS[asked.kind](asked, writer)
        writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=512)
    port = server.sockets[0].getsockname()[1]
    with _full_listener() as full:
        ports = {"port": port, "full_port": full.getsockname()[1]}
        sys.stdout.write(json.dumps(ports) + "\n")
        sys.stdout.flush()
        async with server:
            await server.serve_forever()


async def _read(reader: asyncio.StreamReader, lifetime: float) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *fields = head.split("\r\n")
    lengths = [field[15:] for field in fields if field.lower().startswith("content-length:")]
    body = await reader.readexactly(int(lengths[0]))
    _, kind, client = line.split()[1].split("/")
    _ASKED[kind] += 1
    return Asked(kind, int(client), parse_qs(body.decode())["refresh_token"][0], lifetime)


def _full_listener() -> socket.socket:
    """A port whose backlog is full and whose process accepts nobody: connecting hangs."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    for _ in range(4):  # the kernel takes one or two more than it was told
        waiting = socket.socket()
        waiting.setblocking(False)
        waiting.connect_ex(listener.getsockname())
        _FILLING.append(waiting)
    return listener


_FILLING: list[socket.socket] = []
"""Connections that fill a backlog; closing one would free its place."""


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
