"""Consumers' requests: each is handed out, none stops the reading."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from refresher.domain.secret import Secret
from refresher.errors import UnknownGrant, VaultUnavailable
from refresher.logs import Event
from refresher.publication import inbox as inbox_module
from refresher.publication.inbox import Handler, Inbox, RefreshRequest, parse_request
from refresher.publication.keys import REQUESTS_GROUP
from tests.publication.world import CLOCK, KEYS, connected, lines_of, logged, wait_until
from tests.support.valkey import Valkey


class Desk:
    """A handler that remembers, and refuses as told."""

    def __init__(self) -> None:
        self.handled: list[RefreshRequest] = []
        self.refusal: Exception | None = None

    async def __call__(self, request: RefreshRequest) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.handled.append(request)


@asynccontextmanager
async def reading(url: str, handler: Handler, **parts: object) -> AsyncIterator[None]:
    async with connected(url, **parts) as server, anyio.create_task_group() as group:
        inbox = Inbox(server=server, keys=KEYS, clock=CLOCK)
        group.start_soon(inbox.run, handler)
        yield
        group.cancel_scope.cancel()


def ask(valkey: Valkey, **fields: str | int) -> None:
    with valkey.client() as client:
        client.xadd(KEYS.requests, fields)


def pending(valkey: Valkey) -> int:
    """Requests taken and not acknowledged."""
    with valkey.client() as client:
        if not client.exists(KEYS.requests):
            return 0
        groups = client.xinfo_groups(KEYS.requests)
        return sum(group["pending"] for group in groups)


def left(valkey: Valkey) -> int:
    with valkey.client() as client:
        count: int = client.xlen(KEYS.requests)
        return count


async def test_a_request_reaches_the_handler(shared_valkey: Valkey) -> None:
    desk = Desk()
    async with reading(shared_valkey.url, desk):
        ask(shared_valkey, grant="acme", version=7, reason="401")
        await wait_until(lambda: desk.handled, "the request")
        await wait_until(lambda: left(shared_valkey) == 0, "its deletion")
    assert desk.handled == [RefreshRequest("acme", 7, "401")]
    assert pending(shared_valkey) == 0


async def test_requests_wait_for_a_daemon(shared_valkey: Valkey) -> None:
    for version in range(100):
        ask(shared_valkey, grant="acme", version=version)
    desk = Desk()
    async with reading(shared_valkey.url, desk):
        await wait_until(lambda: len(desk.handled) == 100, "100 requests")
    assert [request.version for request in desk.handled] == list(range(100))


async def test_a_flush_does_not_end_the_reading(shared_valkey: Valkey) -> None:
    desk = Desk()
    async with reading(shared_valkey.url, desk):
        ask(shared_valkey, grant="before")
        await wait_until(lambda: desk.handled, "the first request")
        with shared_valkey.client() as client:
            client.flushall()
        ask(shared_valkey, grant="after")
        await wait_until(lambda: len(desk.handled) == 2, "the second request", seconds=3)
    assert [request.grant for request in desk.handled] == ["before", "after"]


async def test_a_restarted_server_is_read_again(valkey: Valkey) -> None:
    desk = Desk()
    async with reading(valkey.url, desk):
        ask(valkey, grant="before")
        await wait_until(lambda: desk.handled, "the first request")
        valkey.restart()
        ask(valkey, grant="after")
        await wait_until(lambda: len(desk.handled) == 2, "the second request", seconds=5)


@pytest.mark.parametrize(
    "fields",
    [
        {"reason": "401"},
        {"grant": "two words"},
        {"grant": "acme", "version": "latest"},
        {"grant": "acme", "version": "-1"},
    ],
    ids=["no grant", "no valid grant", "no number", "negative"],
)
async def test_a_malformed_request_is_ignored_once(
    shared_valkey: Valkey, fields: dict[str, str]
) -> None:
    desk = Desk()
    with logged() as lines:
        async with reading(shared_valkey.url, desk):
            ask(shared_valkey, **fields)
            ask(shared_valkey, grant="acme")
            await wait_until(lambda: desk.handled, "the well-formed request")
            await wait_until(lambda: left(shared_valkey) == 0, "the deletion of both")
    (ignored,) = lines_of(lines, Event.REQUEST_IGNORED)
    assert ignored["reason"].startswith("malformed request")
    assert "two words" not in str(lines)
    assert desk.handled == [RefreshRequest("acme", None, "")]


async def test_a_request_for_an_unknown_grant_is_dropped(shared_valkey: Valkey) -> None:
    desk = Desk()
    desk.refusal = UnknownGrant("acme")
    with logged() as lines:
        async with reading(shared_valkey.url, desk):
            ask(shared_valkey, grant="acme")
            await wait_until(lambda: lines_of(lines, Event.REQUEST_IGNORED), "the line")
            await wait_until(lambda: left(shared_valkey) == 0, "its deletion")


async def test_a_refused_request_is_kept(shared_valkey: Valkey) -> None:
    desk = Desk()
    desk.refusal = VaultUnavailable("not now")
    async with reading(shared_valkey.url, desk):
        ask(shared_valkey, grant="acme")
        await wait_until(lambda: pending(shared_valkey) == 1, "the request to be taken")
        await anyio.sleep(0.02)
    assert (pending(shared_valkey), left(shared_valkey)) == (1, 1)


async def test_what_a_dead_daemon_took_is_taken_again(shared_valkey: Valkey) -> None:
    ask(shared_valkey, grant="acme")
    idle = round(inbox_module.ABANDONED * 1000)
    with shared_valkey.client() as client:
        client.xgroup_create(KEYS.requests, REQUESTS_GROUP, "0")
        ((_, ((entry, _),)),) = client.xreadgroup(REQUESTS_GROUP, "dead", {KEYS.requests: ">"})
        client.execute_command(
            *("XCLAIM", KEYS.requests, REQUESTS_GROUP, "dead", 0, entry, "IDLE", idle)
        )
    desk = Desk()
    async with reading(shared_valkey.url, desk):
        await wait_until(lambda: desk.handled, "the abandoned request")
        await wait_until(lambda: left(shared_valkey) == 0, "its deletion")


async def test_a_missing_permission_is_doubted_once(valkey: Valkey) -> None:
    with valkey.client() as client:
        client.execute_command(
            *("ACL", "SETUSER", "daemon", "reset", "on", ">secret", "~*", "&*", "+@all"),
            "-xreadgroup",
        )
    with logged() as lines:
        async with reading(valkey.url, Desk(), username="daemon", password=Secret("secret")):
            await wait_until(lambda: lines_of(lines, Event.REDIS_DOUBTED), "the line")
            await anyio.sleep(1.1)
    (doubt,) = lines_of(lines, Event.REDIS_DOUBTED)
    assert "add +xreadgroup" in doubt["reason"]


def test_a_reason_is_cut_to_length() -> None:
    request = parse_request({b"grant": b"acme", b"reason": b"x" * 10_000 + b"\xff"})
    assert request.reason == "x" * inbox_module.REASON_LENGTH
