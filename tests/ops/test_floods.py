"""Whoever can connect takes no descriptors, no answers and no time from anybody else."""

import asyncio
import errno
import json
import logging
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import anyio
import pytest

from refresher import listening
from refresher.logs import libraries
from refresher.ops import control
from refresher.ops.control import ControlServer
from refresher.ops.control_client import ControlClient
from refresher.ops.health import Judge, Verdict
from refresher.ops.http_listener import probe_routes, serving_http
from refresher.ops.protocol import JSON
from tests.ops.conftest import CANARY
from tests.support.log_output import LogOutput
from tests.support.waiting import eventually

HEAD = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
FLOOD = 300


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "IDLE_WITHIN", 0.3)
    monkeypatch.setattr(listening, "LOOK_EVERY", 0.05)


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    """Sockets of strangers, closed at the end."""
    with ExitStack() as stack:
        yield stack


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def connect(crowd: ExitStack, where: int | Path) -> socket.socket:
    family = socket.AF_INET if isinstance(where, int) else socket.AF_UNIX
    peer = crowd.enter_context(socket.socket(family))
    peer.setblocking(False)
    address = ("127.0.0.1", where) if isinstance(where, int) else str(where)
    with anyio.fail_after(30):
        await asyncio.get_running_loop().sock_connect(peer, address)
    return peer


async def received(peer: socket.socket) -> bytes:
    """Everything until the server ends the connection."""
    content = b""
    with anyio.fail_after(30):
        try:
            while more := await asyncio.get_running_loop().sock_recv(peer, 65536):
                content += more
        except ConnectionError:
            pass
    return content


@asynccontextmanager
async def controlled(path: Path, **operations: object) -> AsyncIterator[None]:
    server = ControlServer(path, operations=operations, is_ready=Verdict)  # type: ignore[arg-type]  # they are operations
    async with server.serving():
        yield


async def test_a_thousand_connections_take_few_descriptors(
    healthy: Judge, crowd: ExitStack
) -> None:
    """And whoever asks honestly among them is answered."""
    async with serving_http("127.0.0.1:0", probe_routes(healthy)) as port:
        before = descriptors()
        for _ in range(FLOOD):
            peer = await connect(crowd, port)
            await asyncio.get_running_loop().sock_sendall(peer, HEAD)
        assert descriptors() - before - FLOOD <= 64 + 2
        honest = await connect(crowd, port)
        await asyncio.get_running_loop().sock_sendall(honest, HEAD + b"Connection: close\r\n\r\n")
        assert (await received(honest)).startswith(b"HTTP/1.1 200 ")
        assert descriptors() - before - FLOOD <= 64 + 2


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("sent", [b"", b"GET", HEAD, HEAD + b"X: y\r\n"])
async def test_a_head_that_never_ends_is_cut_off(
    healthy: Judge, crowd: ExitStack, sent: bytes
) -> None:
    async with serving_http("127.0.0.1:0", probe_routes(healthy)) as port:
        peer = await connect(crowd, port)
        await asyncio.get_running_loop().sock_sendall(peer, sent)
        assert b" 200 " not in await received(peer)


@pytest.mark.usefixtures("_impatient")
async def test_a_byte_now_and_then_is_no_request(healthy: Judge, crowd: ExitStack) -> None:
    async with serving_http("127.0.0.1:0", probe_routes(healthy)) as port:
        peer = await connect(crowd, port)

        async def drip() -> None:
            with anyio.move_on_after(30):
                for byte in HEAD * 1000:
                    try:
                        await asyncio.get_running_loop().sock_sendall(peer, bytes([byte]))
                    except OSError:
                        return
                    await anyio.sleep(0.02)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drip)
            await received(peer)
            tasks.cancel_scope.cancel()


async def test_a_body_that_never_ends_is_answered(
    folder: Path, crowd: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "BODY_WITHIN", 0.2)

    async def echo(parameters: Mapping[str, JSON]) -> JSON:
        return parameters

    async with controlled(folder / "s", echo=echo):
        peer = await connect(crowd, folder / "s")
        await asyncio.get_running_loop().sock_sendall(
            peer,
            b"POST /v1/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 9\r\n\r\n{",
        )
        head, _, body = (await received(peer)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["type"].endswith("/RequestTimeout")


@pytest.mark.usefixtures("_impatient")
async def test_an_answer_that_nobody_reads_is_given_up(folder: Path, crowd: ExitStack) -> None:
    async def flood(_: Mapping[str, JSON]) -> JSON:
        return "x" * 30_000_000

    async with controlled(folder / "s", flood=flood):
        before = descriptors()
        peer = await connect(crowd, folder / "s")
        await asyncio.get_running_loop().sock_sendall(
            peer, b"POST /v1/flood HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
        )
        await eventually(lambda: descriptors() == before + 2, "both ends are open")
        await eventually(lambda: descriptors() == before + 1, "one is closed")


async def test_what_is_at_work_is_cut_off_for_nobody(folder: Path, crowd: ExitStack) -> None:
    """With all places at work there is none for one more, and all of them are answered."""
    release, begun = anyio.Event(), 0
    path = folder / "s"

    async def slow(_: Mapping[str, JSON]) -> JSON:
        nonlocal begun
        begun += 1
        await release.wait()
        return {"done": True}

    answers: list[JSON] = []

    async def call() -> None:
        answers.append(await ControlClient(path).call("slow"))

    async with controlled(path, slow=slow), anyio.create_task_group() as tasks:
        for _ in range(listening.MOST):
            tasks.start_soon(call)
        await eventually(lambda: begun == listening.MOST, "all are at work")
        refused = await connect(crowd, path)
        assert await received(refused) == b""
        release.set()
    assert answers == [{"done": True}] * listening.MOST


async def test_a_process_without_descriptors_says_it_once(
    healthy: Judge,
    crowd: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    log_output: LogOutput,
) -> None:
    monkeypatch.setattr(listening, "EXHAUSTED", 0.01)
    loop = asyncio.get_running_loop()
    accept, failures = loop.sock_accept, 5

    async def failing(listener: socket.socket) -> tuple[socket.socket, object]:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return await accept(listener)

    monkeypatch.setattr(loop, "sock_accept", failing)
    async with serving_http("127.0.0.1:0", probe_routes(healthy)) as port:
        peer = await connect(crowd, port)
        await loop.sock_sendall(peer, HEAD + b"Connection: close\r\n\r\n")
        assert b" 200 " in await received(peer)
    assert log_output.getvalue().count("descriptors.exhausted") == 1


async def test_garbage_is_one_line_without_its_text(
    healthy: Judge,
    crowd: ExitStack,
    log_output: LogOutput,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    libraries.take_over()
    try:
        async with serving_http("127.0.0.1:0", probe_routes(healthy)) as port:
            for number in range(20):
                peer = await connect(crowd, port)
                garbage = f"{CANARY} \x00{number}\r\nX\r\n\r\n".encode()
                await asyncio.get_running_loop().sock_sendall(peer, garbage)
                await received(peer)
    finally:
        logging.captureWarnings(capture=False)
    assert log_output.getvalue().count("library.complained") <= 1
    out, err = capfd.readouterr()
    assert CANARY not in log_output.getvalue() + out + err
    assert err == ""
