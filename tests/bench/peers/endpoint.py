"""A token endpoint that is faster than everything measured against it; a process of its own.

It speaks just enough HTTP/1.1 for well-behaved clients on loopback. Its refresh tokens are
``g.NUMBER.GENERATION.padding``, and each answer rotates: it takes the successor of what it
gave last, or what a restart of the benchmark presents first, and counts everything else as
wrong. Runs under the peers' Python: ``python -m tests.bench.peers.endpoint PORT``.

A GET is answered by name: ``/counts``, ``/marks`` (when each request came and was answered) and
``/limit/310`` (from now on 310 requests a second are answered, and the rest with 429).
"""

import asyncio
import json
import sys
import time
from array import array
from typing import Any

try:
    from uvloop import run
except ImportError:  # the tests of the benchmark install nothing
    from asyncio import run

ACCESS_TOKEN_BYTES = 900
REFRESH_TOKEN_BYTES = 64
EXPIRES_IN = 3_600
RETRY_AFTER = 1

_END = b"\r\n\r\n"


def refresh_token(number: int, generation: int) -> str:
    """The refresh token of grant NUMBER that its answer GENERATION brought; 0 is the first."""
    return f"g.{number}.{generation}.".ljust(REFRESH_TOKEN_BYTES, "r")


def access_token(number: int, generation: int) -> str:
    """The access token of that answer: each is another one, as everywhere."""
    return f"a-{number}-{generation}-".ljust(ACCESS_TOKEN_BYTES, "a")


class Limit:
    """What the server allows a second: a bucket that holds a second's worth and begins empty."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._tokens = 0.0
        self._at = time.monotonic()

    def allows(self) -> bool:
        """Whether a request that comes now is answered."""
        if self._rate is None:
            return True
        now = time.monotonic()
        self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Books:
    """What was asked and answered so far."""

    def __init__(self) -> None:
        self._limit = Limit(None)
        self.generations: dict[int, int] = {}
        self.answered = self.refused = self.wrong = 0
        self.marks = array("d")
        """Grant, arrival, answer, for each request that was answered; wall time."""

    def exchange(self, body: bytes) -> bytes:
        """The answer to the token request BODY."""
        came = time.time()
        if not self._limit.allows():
            self.refused += 1
            return _response(b"429 Too Many Requests", b"{}", b"Retry-After: %d\r\n" % RETRY_AFTER)
        place = body.find(b"refresh_token=g.")
        parts = body[place + 16 : place + 40].split(b".", 2)
        number, generation = int(parts[0]), int(parts[1])
        if self.generations.get(number, generation) != generation:
            self.wrong += 1
            return _response(b"400 Bad Request", b'{"error": "invalid_grant"}')
        self.generations[number] = generation + 1
        answer = (
            f'{{"access_token": "{access_token(number, generation + 1)}", '
            f'"token_type": "Bearer", "expires_in": {EXPIRES_IN}, '
            f'"refresh_token": "{refresh_token(number, generation + 1)}"}}'
        )
        self.answered += 1
        self.marks.extend((number, came, time.time()))
        return _response(b"200 OK", answer.encode())

    def told(self, path: bytes) -> bytes:
        """The answer to a GET of PATH."""
        if path == b"/counts":
            counts = {"answered": self.answered, "refused": self.refused, "wrong": self.wrong}
            return _response(b"200 OK", json.dumps(counts).encode())
        if path.startswith(b"/limit/"):
            self._limit = Limit(float(path.removeprefix(b"/limit/")))
            return _response(b"200 OK", b"")
        return _response(b"200 OK", self.marks.tobytes())


def _response(status: bytes, body: bytes, more: bytes = b"") -> bytes:
    return (
        b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n"
        b"%sContent-Length: %d\r\n\r\n%s" % (status, more, len(body), body)
    )


class Connection(asyncio.Protocol):
    """One kept-alive connection; a request may come in pieces."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._pending = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._pending + data
        while (head := data.find(_END)) >= 0:
            begin = head + len(_END)
            end = begin + _length(data[:head])
            if len(data) < end:
                break
            if data.startswith(b"POST"):
                answer = self._books.exchange(data[begin:end])
            else:
                answer = self._books.told(data.split(b" ", 2)[1])
            self._transport.write(answer)
            data = data[end:]
        self._pending = data


def _length(head: bytes) -> int:
    """Content-Length in HEAD, whose letters clients write as they like."""
    place = head.lower().find(b"content-length:")
    return 0 if place < 0 else int(head[place + 15 :].split(b"\r", 1)[0])


async def serve(port: int, books: Books) -> None:
    """Answer until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(books), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    run(serve(int(sys.argv[1]), Books()))
