"""Names that hang hang alone."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from refresher.domain.outcomes import NotSent, Outcome, Refreshed
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.oauth.transport import names, post
from refresher.oauth.transport.names import THREADS, Resolver
from tests.oauth.world import TOKENS, answering, http_answer, make_client, without_descriptors
from tests.support.waiting import PATIENCE


class NameServer:
    """What getaddrinfo asks: names that begin with ``hang`` are answered by silence."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.answers = threading.Event()
        self.is_asked = threading.Semaphore(0)

    def getaddrinfo(self, host: str, port: object, **how: Any) -> list[Any]:
        self.asked[host] += 1
        self.is_asked.release()
        if host.startswith("hang"):
            self.answers.wait()
        if host.startswith("full"):
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        found: list[Any] = REAL("127.0.0.1", port, **how | {"family": socket.AF_INET})
        return found


REAL: Any = socket.getaddrinfo


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server.getaddrinfo)
    yield server
    server.answers.set()


async def addresses(resolver: Resolver, host: str) -> list[str]:
    return [found["host"] for found in await resolver.resolve(host, 80)]


async def ignored(resolver: Resolver, host: str) -> None:
    """Ask for HOST as an exchange does: its end is cancellation."""
    with anyio.move_on_after(0.1):
        await resolver.resolve(host, 80)


async def test_many_names_that_hang_stop_only_their_own(name_server: NameServer) -> None:
    resolver = Resolver()
    async with anyio.create_task_group() as group:
        for number in range(THREADS - 1):
            group.start_soon(ignored, resolver, f"hangs-{number}.test")
        with anyio.fail_after(PATIENCE):
            assert await addresses(resolver, "good.test") == ["127.0.0.1"]
    await resolver.close()


async def test_a_name_that_hangs_holds_one_thread(name_server: NameServer) -> None:
    resolver = Resolver()
    for _ in range(3):
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(ignored, resolver, "hangs.test")
    assert name_server.asked["hangs.test"] == 1

    name_server.answers.set()
    with anyio.fail_after(PATIENCE):
        assert await addresses(resolver, "hangs.test") == ["127.0.0.1"]
    await resolver.close()


async def test_names_that_always_hang_leave_half_of_the_threads(
    name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than threads: the first time they may hold all, later half."""
    monkeypatch.setattr(names, "HANGING_AFTER", 0.0)
    resolver = Resolver()
    hosts = [f"hangs-{number}.test" for number in range(THREADS + 8)]
    name_server.answers.set()
    for host in hosts:
        await resolver.resolve(host, 80)
    name_server.answers.clear()
    async with anyio.create_task_group() as group:
        for host in hosts:
            group.start_soon(ignored, resolver, host)
        with anyio.fail_after(PATIENCE):
            assert await addresses(resolver, "new.test") == ["127.0.0.1"]
    assert sum(name_server.asked.values()) == len(hosts) + THREADS // 2 + 1
    await resolver.close()


async def test_a_process_that_starts_no_threads_any_more_still_resolves(
    name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver()

    def refuses(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuses)
    for host in ("a.test", "b.test"):
        assert await addresses(resolver, host) == ["127.0.0.1"]
    await resolver.close()


async def test_a_few_threads_are_enough(
    name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, left = threading.Thread.start, [3]

    def starts_three(thread: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starts_three)
    resolver = Resolver()
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(resolver.resolve, f"good-{number}.test", 80)
    await resolver.close()
    assert len(name_server.asked) == 20


async def test_the_threads_end_with_it() -> None:
    before = set(threading.enumerate())
    async with TokenEndpoint():
        started = [thread for thread in threading.enumerate() if thread not in before]
        assert len(started) == THREADS
    for thread in started:
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive()


async def test_an_unknown_name_and_no_name() -> None:
    resolver = Resolver()
    with pytest.raises(socket.gaierror):
        await resolver.resolve("no-such-host.invalid", 80)
    with pytest.raises(UnicodeError):
        await resolver.resolve("a" * 70 + ".test", 80)
    assert await addresses(resolver, "localhost")
    await resolver.close()


async def test_endpoints_whose_names_hang_stop_no_other(
    name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the whole transport: 8 hang, and are asked again while they do."""
    monkeypatch.setattr(post, "CONNECT_WITHIN", 1.5)
    outcomes: list[Outcome] = []

    async def refresh(endpoint: TokenEndpoint, url: str) -> None:
        client = make_client(url)
        outcomes.append(
            await endpoint.refresh(client, RefreshToken(Secret("RT1")), patience=Patience(5))
        )

    async with answering(http_answer(TOKENS)) as raw, TokenEndpoint() as endpoint:
        for _ in range(2):
            async with anyio.create_task_group() as group:
                for number in range(8):
                    for port in (80, 81):
                        url = f"http://hangs-{number}.test:{port}/"
                        group.start_soon(refresh, endpoint, url)
                named = make_client(raw.url.replace("127.0.0.1", "good.test"))
                outcome = await endpoint.refresh(
                    named, RefreshToken(Secret("RT1")), patience=Patience(5)
                )
            assert isinstance(outcome, Refreshed)
        name_server.answers.set()

    assert outcomes == [NotSent(reason="connect_timeout")] * 32
    assert all(name_server.asked[f"hangs-{number}.test"] == 1 for number in range(8))


async def test_a_resolver_without_descriptors_says_so(name_server: NameServer) -> None:
    """glibc says "try again": it is told as what it is."""
    resolver = Resolver()
    with pytest.raises(socket.gaierror):
        await resolver.resolve("full.test", 80)
    with without_descriptors(), pytest.raises(OSError, match="Too many open files"):
        await resolver.resolve("full.test", 80)
    await resolver.close()
