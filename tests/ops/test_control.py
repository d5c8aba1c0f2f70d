"""The control socket from both ends, over a real socket."""

import contextlib
import io
import json
import os
import socket
import stat
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from anyio.abc import SocketStream

from refresher.domain.secret import Secret
from refresher.errors import ControlError, ControlUnavailable, SettingsError, UnknownGrant
from refresher.ops.control import ControlServer
from refresher.ops.control_client import ControlClient
from refresher.ops.health import Judge
from refresher.ops.protocol import JSON, MAX_BODY, TYPES, Operation
from refresher.ops.socket_file import ListenerRefused, SocketFile, bind_socket_file
from tests.ops.conftest import CANARY
from tests.support.waiting import PATIENCE

Serve = Callable[..., contextlib.AbstractAsyncContextManager[ControlClient]]


async def echo(parameters: Mapping[str, JSON]) -> JSON:
    return parameters


async def fail_on_an_unknown_grant(_: Mapping[str, JSON]) -> JSON:
    raise UnknownGrant("acme")


async def fail_with_many_problems(_: Mapping[str, JSON]) -> JSON:
    raise SettingsError(["first", "second"])


async def fail_quoting_its_parameters(parameters: Mapping[str, JSON]) -> JSON:
    raise KeyError(str(parameters))


async def answer_an_object_of_ours(_: Mapping[str, JSON]) -> JSON:
    return Secret(CANARY)  # type: ignore[return-value]  # the mistake under test


OPERATIONS: Mapping[str, Operation] = {
    "echo": echo,
    "unknown-grant": fail_on_an_unknown_grant,
    "settings": fail_with_many_problems,
    "bug": fail_quoting_its_parameters,
    "not-json": answer_an_object_of_ours,
}


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "control.sock"


@pytest.fixture
def serve(path: Path, healthy: Judge) -> Serve:
    @contextlib.asynccontextmanager
    async def serving(
        operations: Mapping[str, Operation] = OPERATIONS, finish_within: float = 5.0
    ) -> AsyncIterator[ControlClient]:
        server = ControlServer(
            path, operations=operations, is_ready=healthy, finish_within=finish_within
        )
        async with server.serving():
            yield ControlClient(path)

    return serving


@pytest.fixture
def killed_listener(path: Path) -> Path:
    """A socket file whose process is gone."""
    script = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    return path


def path_mode(path: Path) -> int | None:
    return path.stat().st_mode if path.exists() else None


async def exchange_bytes(path: Path, request: bytes) -> bytes:
    async with await anyio.connect_unix(path) as stream:
        await stream.send(request)
        received = b""
        with contextlib.suppress(anyio.EndOfStream):
            while True:
                received += await stream.receive()
        return received


def request_bytes(body: bytes, operation: str = "echo", method: str = "POST") -> bytes:
    head = f"{method} /v1/{operation} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def test_parameters_and_results_cross_unchanged(serve: Serve) -> None:
    async with serve() as client:
        sent: dict[str, JSON] = {
            "text": "\u00e9\n",
            "number": 1.5,
            "list": [1, None, True],
            "operation": {"a": {}},
        }
        assert await client.call("echo", answer_within=PATIENCE, **sent) == sent
        assert await client.call("echo") == {}


async def test_a_secret_is_revealed_only_on_the_wire(serve: Serve) -> None:
    async with serve() as client:
        result = await client.call("echo", code=Secret("c1"), rows=[{"access_token": Secret("t1")}])
    assert result == {"code": "c1", "rows": [{"access_token": "t1"}]}


@pytest.mark.parametrize(
    ("operation", "kind", "message"),
    [
        pytest.param("unknown-grant", "UnknownGrant", "there is no grant named acme", id="grant"),
        pytest.param("settings", "RefresherError", "first\nsecond", id="several lines"),
        pytest.param("nothing", "UnknownOperation", "there is no such operation", id="unknown"),
        pytest.param("", "UnknownOperation", "there is no such operation", id="empty"),
        pytest.param("bug", "InternalError", "the daemon met a bug; its log says where", id="bug"),
        pytest.param(
            "not-json", "InternalError", "the daemon met a bug; its log says where", id="not JSON"
        ),
    ],
)
async def test_errors_arrive_by_kind_and_text(
    serve: Serve, no_canary_anywhere: None, operation: str, kind: str, message: str
) -> None:
    async with serve() as client:
        with pytest.raises(ControlError) as caught:
            await client.call(operation, code=CANARY)
    assert (caught.value.kind, str(caught.value)) == (kind, message)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


async def test_a_bug_is_logged_by_its_frames(serve: Serve, log_output: io.StringIO) -> None:
    async with serve() as client:
        with pytest.raises(ControlError):
            await client.call("bug", code=CANARY)
    lines = [json.loads(line) for line in log_output.getvalue().splitlines()]
    (line,) = [line for line in lines if line["event"] == "operation.failed"]
    assert (line["task"], line["error"], line["level"]) == ("/v1/bug", "KeyError", "error")
    assert any("fail_quoting_its_parameters" in frame for frame in line["traceback"])
    assert CANARY not in log_output.getvalue()


@pytest.mark.parametrize(
    ("request_sent", "status", "kind"),
    [
        pytest.param(request_bytes(b"[1]"), 400, "MalformedRequest", id="an array"),
        pytest.param(request_bytes(b""), 400, "MalformedRequest", id="no body"),
        pytest.param(request_bytes(b"\xff"), 400, "MalformedRequest", id="not UTF-8"),
        pytest.param(request_bytes(b"[" * 200_000), 400, "MalformedRequest", id="nested too deep"),
        pytest.param(request_bytes(CANARY.encode()), 400, "MalformedRequest", id="not JSON"),
        pytest.param(request_bytes(b"{}", method="PUT"), 405, "WrongMethod", id="not POST"),
        pytest.param(request_bytes(b"{}", "a/b"), 404, "UnknownOperation", id="another path"),
        pytest.param(
            request_bytes(b" " * (MAX_BODY + 1)), 413, "RequestTooLarge", id="one byte too long"
        ),
    ],
)
@pytest.mark.usefixtures("no_canary_anywhere")
async def test_a_bad_request_is_told_what_it_is(
    serve: Serve, path: Path, request_sent: bytes, status: int, kind: str
) -> None:
    async with serve():
        answer = await exchange_bytes(path, request_sent)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"\r\nContent-Type: application/problem+json" in head
    told = json.loads(body)
    assert (told["status"], told["type"]) == (status, TYPES + kind)
    assert told["repair"]


async def test_bytes_that_are_no_http_are_not_logged(
    serve: Serve, no_canary_anywhere: None, path: Path
) -> None:
    async with serve() as client:
        answer = await exchange_bytes(
            path, b"POST /v1/echo HTTP/1.1\r\n" + CANARY.encode() + b"\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.0 400 ")
        assert await client.call("echo") == {}


async def test_the_largest_body_allowed_passes(serve: Serve) -> None:
    padding = "x" * (MAX_BODY - len('{"p": ""}'))
    async with serve() as client:
        assert await client.call("echo", p=padding) == {"p": padding}
        with pytest.raises(ControlError) as caught:
            await client.call("echo", p=padding + "x")
    assert caught.value.kind == "RequestTooLarge"


async def test_calls_are_answered_side_by_side(serve: Serve) -> None:
    everybody_is_here, arrived = anyio.Event(), 0

    async def wait_for_the_others(parameters: Mapping[str, JSON]) -> JSON:
        nonlocal arrived
        arrived += 1
        if arrived == 20:
            everybody_is_here.set()
        await everybody_is_here.wait()
        return {"number": parameters["number"]}

    results: list[JSON] = []
    async with serve({"meet": wait_for_the_others}) as client:

        async def call(number: int) -> None:
            results.append((await client.call("meet", number=number))["number"])

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(call, number)
    assert set(map(str, results)) == set(map(str, range(20)))


async def test_an_operation_survives_its_command(serve: Serve) -> None:
    started, released, done = anyio.Event(), anyio.Event(), anyio.Event()

    async def work(_: Mapping[str, JSON]) -> JSON:
        started.set()
        await released.wait()
        done.set()
        return {}

    async with serve({"work": work}) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call, "work")
            await started.wait()
            tasks.cancel_scope.cancel()
        released.set()
        with anyio.fail_after(PATIENCE):
            await done.wait()


async def test_a_call_in_flight_is_finished_at_shutdown(serve: Serve, path: Path) -> None:
    started, released = anyio.Event(), anyio.Event()
    results = []

    async def work(_: Mapping[str, JSON]) -> JSON:
        started.set()
        await released.wait()
        return {"done": True}

    async def call(client: ControlClient) -> None:
        results.append(await client.call("work"))

    async def release_once_nobody_else_gets_in() -> None:
        with anyio.fail_after(PATIENCE), contextlib.suppress(ControlUnavailable):
            while True:
                await ControlClient(path).call("no")
                await anyio.sleep(0.01)
        released.set()

    async def refuse(_: Mapping[str, JSON]) -> JSON:
        return {}

    async with (
        anyio.create_task_group() as tasks,
        serve({"work": work, "no": refuse}) as client,
    ):
        tasks.start_soon(call, client)
        await started.wait()
        tasks.start_soon(release_once_nobody_else_gets_in)
    assert results == [{"done": True}]


async def test_a_call_past_the_deadline_is_cut(serve: Serve) -> None:
    started, cleaned_up = anyio.Event(), False

    async def hang(_: Mapping[str, JSON]) -> None:
        nonlocal cleaned_up
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            cleaned_up = True

    kinds = []

    async def call(client: ControlClient) -> None:
        with pytest.raises(ControlError) as caught:
            await client.call("hang")
        kinds.append(caught.value.kind)

    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(PATIENCE):
            async with serve({"hang": hang}, finish_within=0.1) as client:
                tasks.start_soon(call, client)
                await started.wait()
        assert cleaned_up, "the server ended before its operation did"
    assert kinds == ["Stopped"]


async def test_shutdown_by_cancellation_still_finishes_calls(serve: Serve) -> None:
    started, released, results = anyio.Event(), anyio.Event(), []

    async def work(_: Mapping[str, JSON]) -> JSON:
        started.set()
        await released.wait()
        return {"done": True}

    async def daemon(clients: list[ControlClient], ready: anyio.Event) -> None:
        async with serve({"work": work}) as client:
            clients.append(client)
            ready.set()
            await anyio.sleep_forever()

    clients: list[ControlClient] = []
    ready = anyio.Event()

    async def call() -> None:
        results.append(await clients[0].call("work"))

    async with anyio.create_task_group() as caller, anyio.create_task_group() as app:
        app.start_soon(daemon, clients, ready)
        await ready.wait()
        caller.start_soon(call)
        await started.wait()
        app.cancel_scope.cancel()
        released.set()
    assert results == [{"done": True}]


async def test_a_silent_daemon_is_not_an_absent_one(serve: Serve) -> None:
    async def hang(_: Mapping[str, JSON]) -> None:
        await anyio.sleep_forever()

    async with serve({"hang": hang}, finish_within=0.02) as client:
        with pytest.raises(ControlError) as caught:
            await client.call("hang", answer_within=0.05)
    assert caught.value.kind == "NoAnswer"
    assert "within 0.05 s" in str(caught.value)


async def test_something_else_on_the_socket_is_noticed(path: Path) -> None:
    async def answer_garbage(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    async with anyio.create_task_group() as tasks, await anyio.create_unix_listener(path) as server:
        tasks.start_soon(server.serve, answer_garbage)
        with pytest.raises(ControlError, match="is no refresher daemon"):
            await ControlClient(path).call("echo", code=CANARY)
        tasks.cancel_scope.cancel()


async def test_no_socket_means_no_daemon(path: Path) -> None:
    with pytest.raises(ControlUnavailable, match="no daemon answers"):
        await ControlClient(path).call("echo")


async def test_a_refused_connection_means_no_daemon(killed_listener: Path) -> None:
    with pytest.raises(ControlUnavailable, match="no daemon answers"):
        await ControlClient(killed_listener).call("echo")


def take_over(path: Path) -> SocketFile:
    path.unlink()
    return bind_socket_file(path)


CALL_AS_NOBODY = """
import os, sys, anyio
from pathlib import Path
from refresher.errors import ControlError, ControlUnavailable
from refresher.ops.control_client import ControlClient

async def main():
    try:  # whatever is imported on the first call is out of nobody's reach later
        await ControlClient(Path("/nonexistent/socket")).call("echo")
    except ControlUnavailable:
        pass
    if os.getuid() == 0:
        os.setuid(65534)
    try:
        await ControlClient(Path(sys.argv[1])).call("echo")
    except ControlError as error:
        print(error.kind)

anyio.run(main)
"""


def test_another_users_socket_is_named_so(folder: Path) -> None:
    folder.chmod(0o755)
    bound = bind_socket_file(folder / "control.sock")
    bound.socket.listen()
    if os.getuid() != 0:
        bound.path.chmod(0)  # then its owner may not connect either
    ended = subprocess.run(
        [sys.executable, "-c", CALL_AS_NOBODY, str(bound.path)], check=False, capture_output=True
    )
    bound.socket.close()
    assert ended.stdout == b"PermissionDenied\n", ended.stderr.decode()


async def test_the_socket_is_private_and_removed(serve: Serve, path: Path) -> None:
    async with serve():
        mode = path_mode(path)
        assert mode is not None
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    assert path_mode(path) is None


def test_a_missing_folder_is_made_private(folder: Path) -> None:
    bound = bind_socket_file(folder / "run" / "control.sock")
    bound.socket.close()
    assert stat.S_IMODE((folder / "run").stat().st_mode) == 0o700


async def test_a_dead_daemons_socket_is_replaced(serve: Serve, killed_listener: Path) -> None:
    mode = path_mode(killed_listener)
    assert mode is not None
    assert stat.S_ISSOCK(mode)
    async with serve() as client:
        assert await client.call("echo") == {}


async def test_a_living_daemons_socket_is_refused(serve: Serve, path: Path) -> None:
    async with serve() as client:
        with pytest.raises(ListenerRefused, match=f"another daemon listens on .*{path.name}"):
            async with serve():
                pass
        assert await client.call("echo") == {}


async def test_a_busy_daemons_socket_is_refused(path: Path) -> None:
    with contextlib.ExitStack() as open_sockets:
        busy = open_sockets.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(str(path))
        busy.listen(0)
        waiting = open_sockets.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(str(path))
        with pytest.raises(ListenerRefused, match="another daemon listens"):
            await to_thread.run_sync(bind_socket_file, path)


async def test_a_successors_socket_is_left_alone(serve: Serve, path: Path) -> None:
    async with serve():
        successor = take_over(path)
    assert path_mode(path) is not None
    successor.socket.close()
    successor.unlink()
    assert path_mode(path) is None


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770], ids=["anybody", "sticky", "group"])
def test_a_folder_open_to_others_is_refused(folder: Path, path: Path, mode: int) -> None:
    folder.chmod(mode)
    with pytest.raises(ListenerRefused, match="is writable by others"):
        bind_socket_file(path)
    assert not path.exists()


def test_a_file_that_is_no_socket_is_kept(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(ListenerRefused, match="is not a socket"):
        bind_socket_file(path)
    assert path.read_text() == "precious"


def test_a_path_too_long_is_named_so(folder: Path) -> None:
    longest = folder / ("x" * (107 - len(bytes(folder)) - 1))
    bound = bind_socket_file(longest)
    bound.socket.close()
    bound.unlink()
    with pytest.raises(ListenerRefused, match="longer than 107 bytes"):
        bind_socket_file(longest.with_name(longest.name + "x"))


def test_a_folder_that_cannot_be_made_is_named(folder: Path) -> None:
    with pytest.raises(ListenerRefused, match="No such file or directory"):
        bind_socket_file(folder / "a" / "b" / "control.sock")
