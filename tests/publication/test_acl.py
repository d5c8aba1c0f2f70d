"""The least a publisher and a consumer may be allowed, on a server where nobody else may."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager

import anyio
import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from refresher.client import TokenReader
from refresher.domain.requests import Rejected
from refresher.domain.secret import Secret
from refresher.logs import Event
from refresher.publication.inbox import Inbox
from tests.publication.world import (
    CLOCK,
    KEYS,
    Rows,
    connected,
    lines_of,
    logged,
    mirroring,
    publication,
)
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

PUBLISHER = (
    "~refresher:* &refresher:* -@all "
    "+hello +auth +ping +select +client|setname +client|tracking "
    "+time +info +script|load +evalsha +type +hget +hset +del +pexpire +publish "
    "+hmget +hgetall +pttl +exists +expire +scan "
    "+xadd +xrange +xlen +xdel +getrange"
)
"""For the daemon."""

CONSUMER = (
    "%R~refresher:token:acme %R~refresher:status:acme &refresher:token:acme -@all "
    "+hello +auth +ping +select +client|setname "
    "+hgetall +hget +hmget +pttl +ttl +exists +subscribe +unsubscribe "
    "(%W~refresher:rejected:acme resetchannels -@all +set)"
)
"""For a consumer of the grant ``acme``."""


@pytest.fixture
def guarded(valkey: Valkey) -> Valkey:
    with valkey.client() as client:
        for user, rules in (("publisher", PUBLISHER), ("consumer", CONSUMER)):
            # a selector in parentheses is one argument
            head, _, selector = rules.partition("(")
            extra = [f"({selector}"] if selector else []
            if not client.info("server")["redis_version"].startswith("7.0"):
                extra.append("+client|setinfo")  # which came with 7.2
            client.execute_command(
                *("ACL", "SETUSER", user, "reset", "on", f">{user}-secret", *head.split(), *extra)
            )
    return valkey


@asynccontextmanager
async def consuming(valkey: Valkey) -> AsyncIterator[Redis]:
    redis = Redis.from_url(valkey.url, username="consumer", password="consumer-secret")
    async with redis:
        yield redis


WHO = {"username": "publisher", "password": Secret("publisher-secret")}


async def test_the_publisher_may_do_all_it_does(guarded: Valkey) -> None:
    rows = Rows(publication(version=1))
    handled: set[str] = set()

    async def handle(rejected: Mapping[str, Rejected]) -> set[str]:
        handled.update(rejected)
        return set()

    with logged() as lines:
        async with connected(guarded.url, **WHO) as server, anyio.create_task_group() as group:
            inbox = Inbox(server=server, keys=KEYS, clock=CLOCK)
            group.start_soon(inbox.run, handle)
            async with mirroring(guarded.url, rows, inbox=inbox, sweep_every=0.05, **WHO) as mirror:
                await eventually(lambda: mirror.is_connected, "a connection")
                with guarded.client() as client:
                    client.hset(KEYS.token("ghost"), "version", "1")
                    client.delete(KEYS.token("acme"))
                    await eventually(lambda: client.exists(KEYS.token("acme")), "the repair")
                    await eventually(lambda: not client.exists(KEYS.token("ghost")), "the removal")
                    client.xadd(KEYS.requests, {"grant": "acme", "version": 1})
                    client.set(KEYS.rejected("other"), 1)
                    await eventually(lambda: handled == {"acme", "other"}, "both requests")
                    await eventually(lambda: not client.keys("*re[jq]*"), "their deletion")
                    await anyio.sleep(0.1)  # a whole slow walk
                    refusals = client.acl_log()
                await mirror.drain(1)
            group.cancel_scope.cancel()
    assert refusals == []
    assert lines_of(lines, Event.REDIS_LOST) == []
    assert lines_of(lines, Event.REDIS_DOUBTED) == []


async def test_polling_needs_no_more(guarded: Valkey) -> None:
    with guarded.client() as client:
        client.execute_command("ACL", "SETUSER", "publisher", "-client|tracking")
    async with mirroring(guarded.url, Rows(publication()), **WHO) as mirror:
        await eventually(lambda: mirror.is_connected, "a connection")
        with guarded.client() as client:
            client.delete(KEYS.token("acme"))
            await eventually(lambda: client.exists(KEYS.token("acme")), "the repair")
        assert mirror.last_error is None


async def test_the_consumer_may_read_follow_and_ask(guarded: Valkey) -> None:
    rows = Rows(publication(version=3))
    async with mirroring(guarded.url, rows, **WHO), consuming(guarded) as redis:
        tokens = TokenReader(redis)
        async with aclosing(tokens.watch("acme")) as watched:
            token = await anext(watched)
        assert token is not None
        assert token.version == 3
        await tokens.reject("acme", token)
        assert await redis.hget(KEYS.status("acme"), "state") == b"fresh"
    with guarded.client() as client:
        assert client.get(KEYS.rejected("acme")) == "3"


FORBIDDEN = {
    "another token": ["HGETALL", "refresher:token:other"],
    "writing a token": ["HSET", "refresher:token:acme", "access_token", "x"],
    "deleting a token": ["DEL", "refresher:token:acme"],
    "adding requests": ["XADD", "refresher:requests", "*", "grant", "acme"],
    "reading requests": ["XRANGE", "refresher:requests", "-", "+"],
    "rejecting another token": ["SET", "refresher:rejected:other", "1"],
    "reading what was rejected": ["GET", "refresher:rejected:acme"],
    "taking it back": ["DEL", "refresher:rejected:acme"],
    "deleting requests": ["DEL", "refresher:requests"],
    "adding events": ["XADD", "refresher:events", "*", "a", "b"],
    "listing keys": ["KEYS", "*"],
    "walking keys": ["SCAN", "0"],
    "tracking all keys": ["CLIENT", "TRACKING", "ON", "BCAST"],
    "announcing": ["PUBLISH", "refresher:token:acme", "x"],
    "scripts": ["EVAL", "return 1", "0"],
}


@pytest.mark.parametrize("command", FORBIDDEN.values(), ids=FORBIDDEN.keys())
async def test_the_consumer_may_not_do_more(guarded: Valkey, command: list[str]) -> None:
    async with consuming(guarded) as redis:
        with pytest.raises(NoPermissionError):
            await redis.execute_command(*command)  # type: ignore[no-untyped-call]  # of redis-py


@pytest.mark.parametrize(
    "command",
    [["FLUSHALL"], ["CONFIG", "GET", "*"], ["KEYS", "*"], ["HGETALL", "other"], ["ACL", "LIST"]],
    ids=lambda command: command[0].lower(),
)
async def test_the_publisher_may_not_do_more(guarded: Valkey, command: list[str]) -> None:
    redis = Redis.from_url(guarded.url, username="publisher", password="publisher-secret")
    async with redis:
        with pytest.raises(NoPermissionError):
            await redis.execute_command(*command)  # type: ignore[no-untyped-call]  # of redis-py
