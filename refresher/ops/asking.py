"""One question in plain HTTP over the control socket, from the command's end.

By hand, because importing an HTTP client would take longer than all else that a command does.
Both ends are ours: the connection is closed after one answer, whose length its head names.
"""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import anyio
from anyio.abc import SocketStream

_END_OF_HEAD = b"\r\n\r\n"


class CutOff(Exception):
    """Raised when the daemon closed the connection before the end of its answer."""


class Answer(NamedTuple):
    """What the daemon said."""

    status: int
    """Of HTTP; 0 where it is none."""
    body: bytes


async def ask(path: Path, method: str, target: str, body: bytes = b"") -> Answer:
    """What the daemon behind the socket PATH answers, however long that takes.

    Raises:
        OSError: nobody listens there, or this user may not ask.
        CutOff: the connection was closed before the whole answer came.
    """
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    async with await anyio.connect_unix(path) as stream:
        with suppress(anyio.BrokenResourceError):  # it may have refused by then, and said so
            await stream.send(head.encode() + body)
        try:
            return await _receive(stream)
        except anyio.BrokenResourceError as error:
            raise CutOff from error


async def _receive(stream: SocketStream) -> Answer:
    received = bytearray()
    head_ends = -1
    async for chunk in stream:
        received += chunk
        if head_ends < 0 and (head_ends := received.find(_END_OF_HEAD)) < 0:
            continue
        status, length = _read_head(received[:head_ends].decode("latin-1"))
        begin = head_ends + len(_END_OF_HEAD)
        if len(received) - begin >= length:
            return Answer(status, bytes(received[begin:]))
    if not received.startswith(b"HTTP/"[: len(received)]):
        return Answer(0, b"")
    raise CutOff


def _read_head(head: str) -> tuple[int, int]:
    """Status, and bytes of the body; 0 for what HEAD does not say."""
    first, *lines = head.split("\r\n")
    fields = (line.partition(":") for line in lines)
    lengths = [value for name, _, value in fields if name.lower() == "content-length"]
    status = first.split(" ")[1:2]
    return _number(status), _number(lengths)


def _number(found: list[str]) -> int:
    return int(found[0]) if found and found[0].strip().isdecimal() else 0
