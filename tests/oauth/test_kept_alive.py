"""Connections that are used again: what came over them unasked is nobody's answer."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from refresher.domain.outcomes import NotSent, Outcome, OutcomeUnknown, Refreshed
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.oauth.transport import connections
from tests.oauth.world import (
    TOKENS,
    RawServer,
    answering,
    http_answer,
    make_certificate,
    make_client,
    refreshed,
    server_context,
    serving,
)

FOREIGN = http_answer({"access_token": "AT-other", "refresh_token": "RT-other", "expires_in": 9})
UNASKED = {
    "an answer": FOREIGN,
    "a refusal": http_answer({"error": "invalid_grant"}, 400),
    "a time-out of the server": http_answer(b"", 408),
    "half an answer": FOREIGN[:30],
    "one letter": b"}",
    "an empty line": b"\r\n",
}


def assert_own(outcome: Outcome) -> None:
    assert isinstance(outcome, Refreshed)
    assert outcome.answer.refresh_token == Secret("RT2")


async def refresh(
    endpoint: TokenEndpoint, url: str, *, deadline: float = 5.0, **client: object
) -> Outcome:
    made = make_client(url, **client)
    return await endpoint.refresh(made, RefreshToken(Secret("RT1")), patience=Patience(deadline))


@pytest.mark.parametrize("unasked", UNASKED.values(), ids=UNASKED.keys())
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
async def test_bytes_after_an_answer_answer_no_other_request(
    tmp_path: Path, unasked: bytes, *, is_tls: bool
) -> None:
    pem = make_certificate(tmp_path)

    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            await raw.read_request(reader)
            writer.write(http_answer(TOKENS) + unasked)

    async with (
        serving(handle, tls=server_context(pem) if is_tls else None) as raw,
        TokenEndpoint() as endpoint,
    ):
        for _ in range(3):
            assert_own(await refresh(endpoint, raw.url, ca_bundle=str(pem)))
        assert raw.connections == 3


@pytest.mark.parametrize("unasked", UNASKED.values(), ids=UNASKED.keys())
async def test_bytes_on_an_idle_connection_answer_no_request(unasked: bytes) -> None:
    is_sent = asyncio.Event()

    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await raw.read_request(reader)
        writer.write(http_answer(TOKENS))
        if len(raw.requests) == 1:
            await asyncio.sleep(0.05)
            writer.write(unasked)
            await writer.drain()
            is_sent.set()
        await reader.read()

    async with serving(handle) as raw, TokenEndpoint() as endpoint:
        assert_own(await refresh(endpoint, raw.url))
        await is_sent.wait()
        await asyncio.sleep(0.05)
        assert_own(await refresh(endpoint, raw.url))
        assert raw.connections == 2


class BlockingServer:
    """A server in a thread: it acts while the loop does not turn."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/token"
        self.connections: list[socket.socket] = []

    def accept(self) -> socket.socket:
        connection, _ = self.listener.accept()
        self.connections.append(connection)
        return connection

    def answer(self, connection: socket.socket, answer: bytes) -> None:
        received = b""
        while b"refresh_token=" not in received:
            received += connection.recv(65536)
        connection.sendall(answer)


@contextmanager
def blocking() -> Iterator[BlockingServer]:
    server = BlockingServer()
    with server.listener:
        yield server
    for connection in server.connections:
        connection.close()


@pytest.mark.parametrize("unasked", [FOREIGN, b"}", b""], ids=["an answer", "a letter", "the end"])
async def test_what_the_loop_has_not_seen_yet_is_nobodys_answer(unasked: bytes) -> None:
    with blocking() as server:

        def first() -> None:
            server.answer(server.accept(), http_answer(TOKENS))

        def second() -> None:
            server.answer(server.accept(), http_answer(TOKENS))

        thread = threading.Thread(target=first)
        thread.start()
        async with TokenEndpoint() as endpoint:
            assert_own(await refresh(endpoint, server.url))
            thread.join()
            if unasked:
                server.connections[0].sendall(unasked)
            else:
                server.connections[0].shutdown(socket.SHUT_WR)
            time.sleep(0.05)  # noqa: ASYNC251  the loop must not look meanwhile
            thread = threading.Thread(target=second)
            thread.start()
            assert_own(await refresh(endpoint, server.url))
        thread.join()


async def test_after_silence_older_connections_are_not_used() -> None:
    """A box on the way forgot all connections: nothing sent over them is seen by anybody."""
    is_forgotten = False

    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        came_before = not is_forgotten
        while True:
            await raw.read_request(reader)
            if is_forgotten and came_before:
                await reader.read()
                return
            await asyncio.sleep(0.05)  # so that exchanges side by side need a connection each
            writer.write(http_answer(TOKENS))

    async with serving(handle) as raw, TokenEndpoint() as endpoint:
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(refresh, endpoint, raw.url)
        assert raw.connections == 4
        is_forgotten = True
        silence = await refresh(endpoint, raw.url, deadline=0.3)
        assert silence == OutcomeUnknown(reason="timeout")
        for _ in range(3):
            assert_own(await refresh(endpoint, raw.url))
        assert raw.connections == 7


async def test_a_server_that_is_silent_on_a_new_connection_keeps_later_ones() -> None:
    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            await raw.read_request(reader)
            if len(raw.requests) > 1:
                writer.write(http_answer(TOKENS))

    async with serving(handle) as raw, TokenEndpoint() as endpoint:
        silence = await refresh(endpoint, raw.url, deadline=0.2)
        assert silence == OutcomeUnknown(reason="timeout")
        for _ in range(3):
            assert_own(await refresh(endpoint, raw.url))
        assert raw.connections == 2


async def test_a_connection_that_may_be_dead_warns_before_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server answers once a connection, and forgets it without a word."""
    monkeypatch.setattr(connections, "SILENCE", 0.1)

    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await raw.read_request(reader)
        writer.write(http_answer(TOKENS))
        await asyncio.Event().wait()

    outcomes: list[Outcome] = []

    async def exchange(endpoint: TokenEndpoint, url: str) -> None:
        outcomes.append(await refresh(endpoint, url, deadline=1))

    async with serving(handle) as raw, TokenEndpoint() as endpoint:
        assert_own(await refresh(endpoint, raw.url))
        async with anyio.create_task_group() as group:
            group.start_soon(exchange, endpoint, raw.url)
            await asyncio.sleep(0.3)
            for _ in range(3):
                assert_own(await refresh(endpoint, raw.url))
            assert outcomes == []
    assert outcomes == [OutcomeUnknown(reason="timeout")]


async def test_giving_up_ends_the_exchange_and_its_connection() -> None:
    has_come, has_ended = asyncio.Event(), asyncio.Event()

    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await raw.read_request(reader)
        has_come.set()
        await reader.read()
        has_ended.set()

    outcomes: list[Outcome] = []
    patience = Patience(60)

    async def exchange(endpoint: TokenEndpoint, url: str) -> None:
        client = make_client(url)
        outcomes.append(
            await endpoint.refresh(client, RefreshToken(Secret("RT1")), patience=patience)
        )

    async with serving(handle) as raw, TokenEndpoint() as endpoint:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(exchange, endpoint, raw.url)
                await has_come.wait()
                patience.give_up()
            await has_ended.wait()

    assert outcomes == [OutcomeUnknown(reason="timeout")]


async def test_giving_up_first_sends_nothing() -> None:
    patience = Patience(60)
    patience.give_up()
    async with answering(http_answer(TOKENS)) as raw, TokenEndpoint() as endpoint:
        outcome = await endpoint.refresh(
            make_client(raw.url), RefreshToken(Secret("RT1")), patience=patience
        )

    assert isinstance(outcome, NotSent)
    assert raw.requests == []


async def test_a_slow_handshake_takes_nothing_from_the_deadline(tmp_path: Path) -> None:
    """TLS behind a relay that holds the first bytes back for longer than the deadline."""
    pem = make_certificate(tmp_path)

    async with answering(http_answer(TOKENS), tls=server_context(pem)) as behind:

        async def handle(
            _: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            upstream, out = await asyncio.open_connection("127.0.0.1", behind.port)
            hello = await reader.read(65536)
            await asyncio.sleep(1)
            out.write(hello)

            async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(65536):
                    sink.write(data)
                sink.close()

            await asyncio.gather(pump(reader, out), pump(upstream, writer), return_exceptions=True)

        async with serving(handle) as relay:
            url = relay.url.replace("http:", "https:")
            outcome = await refreshed(url, deadline=0.8, ca_bundle=str(pem))

    assert_own(outcome)
