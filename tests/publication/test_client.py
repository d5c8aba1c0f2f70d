"""The reader for Python consumers, against what the publisher really writes."""

import ast
import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from refresher import client as client_module
from refresher.client import Token, TokenReader
from refresher.domain.grants import GrantState
from refresher.domain.reasons import Reason
from refresher.publication.keys import REJECTED_LIFE
from tests.publication.world import CANARY, CLOCK, KEYS, publication, publishing
from tests.support.valkey import Valkey
from tests.support.waiting import eventually


@asynccontextmanager
async def reader(valkey: Valkey, *, decode: bool = False) -> AsyncIterator[TokenReader]:
    """A reader whose client gives up nothing by itself."""
    async with Redis.from_url(valkey.url, decode_responses=decode, socket_timeout=None) as redis:
        yield TokenReader(redis)


@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "decoded"])
async def test_get_returns_what_was_published(shared_valkey: Valkey, decode: bool) -> None:  # noqa: FBT001  a parameter
    row = publication(version=7, labels={"team": "sales"})
    row = replace(row, extras={"instance_url": "https://acme.example"})
    async with publishing(shared_valkey.url) as publisher:
        await publisher.publish([row], now=CLOCK.now())
    async with reader(shared_valkey, decode=decode) as tokens:
        token = await tokens.get("acme")
    assert row.grant.expires_at is not None
    assert token == Token(
        access_token=f"{CANARY}-7",
        token_type="Bearer",
        version=7,
        expires_at=int(row.grant.expires_at),
        scope=("a", "b"),
        labels={"team": "sales"},
        extras={"instance_url": "https://acme.example"},
    )
    assert token.authorization == f"Bearer {CANARY}-7"
    assert CANARY not in repr(token)


async def test_get_returns_none_without_a_token(shared_valkey: Valkey) -> None:
    async with reader(shared_valkey) as tokens:
        assert await tokens.get("acme") is None


async def test_a_static_token_has_no_end(shared_valkey: Valkey) -> None:
    async with publishing(shared_valkey.url) as publisher:
        await publisher.publish([publication(life=None)], now=CLOCK.now())
    async with reader(shared_valkey) as tokens:
        token = await tokens.get("acme")
    assert token is not None
    assert token.expires_at is None


@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "decoded"])
async def test_watch_yields_each_version_once(shared_valkey: Valkey, decode: bool) -> None:  # noqa: FBT001  a parameter
    async with (
        publishing(shared_valkey.url) as publisher,
        reader(shared_valkey, decode=decode) as tokens,
    ):
        await publisher.publish([publication(version=1)], now=CLOCK.now())
        seen = []
        async with aclosing(tokens.watch("acme")) as watched:
            async for token in watched:
                assert token is not None
                seen.append(token.version)
                if token.version == 3:
                    break
                for _ in range(2):
                    row = publication(version=token.version + 1)
                    await publisher.publish([row], now=CLOCK.now())
    assert seen == [1, 2, 3]


async def following(
    tokens: TokenReader, seen: list[int | None], *, task_status: TaskStatus[None]
) -> None:
    """Note the version of every token of ``acme`` that is yielded, and None."""
    task_status.started()
    async for token in tokens.watch("acme"):
        version = None if token is None else token.version
        seen.append(version)


async def test_watch_goes_on_after_a_restart(valkey: Valkey) -> None:
    """A restart without persistence takes every key, and so every token, until they are back."""
    seen: list[int | None] = []
    async with publishing(valkey.url) as publisher, reader(valkey) as tokens:
        await publisher.publish([publication(version=1)], now=CLOCK.now())
        async with anyio.create_task_group() as group:
            await group.start(following, tokens, seen)
            await eventually(lambda: seen == [1], "the first")
            valkey.restart()
            await eventually(lambda: seen == [1, None], "its loss")
            await publisher.server.disconnect()
            await publisher.publish([publication(version=2)], now=CLOCK.now())
            await eventually(lambda: seen == [1, None, 2], "the second")
            group.cancel_scope.cancel()


GONE: dict[str, dict[str, Any]] = {
    "removed": {"state": GrantState.REMOVED},
    "revoked": {"state": GrantState.REAUTHORIZATION_REQUIRED, "reason": Reason.REVOKED_HERE},
}


@pytest.mark.parametrize("changes", GONE.values(), ids=GONE)
async def test_watch_yields_none_when_the_token_goes(
    shared_valkey: Valkey, changes: dict[str, Any]
) -> None:
    seen: list[int | None] = []
    async with publishing(shared_valkey.url) as publisher, reader(shared_valkey) as tokens:
        await publisher.publish([publication(version=1)], now=CLOCK.now())
        async with anyio.create_task_group() as group:
            await group.start(following, tokens, seen)
            await eventually(lambda: seen == [1], "the token")
            gone = publication(version=1, expires_at=None, issued_at=None, **changes)
            gone = replace(gone, access_token=None, grant=replace(gone.grant, revision=2))
            await publisher.publish([gone], now=CLOCK.now())
            await eventually(lambda: seen == [1, None], "the word that it has gone")
            group.cancel_scope.cancel()


@pytest.mark.parametrize("is_frozen", [False, True], ids=["expired", "server frozen"])
async def test_watch_never_holds_a_token_past_its_end(
    valkey: Valkey,
    monkeypatch: pytest.MonkeyPatch,
    is_frozen: bool,  # noqa: FBT001  a parameter
) -> None:
    """Nobody says that it ends, be it that Redis says nothing at all any more."""
    monkeypatch.setattr(client_module, "ANSWER_TIME", 0.2)
    seen: list[int | None] = []
    async with publishing(valkey.url) as publisher, reader(valkey) as tokens:
        row = publication(version=1, life=1.5)
        await publisher.publish([row], now=CLOCK.now())
        async with anyio.create_task_group() as group:
            await group.start(following, tokens, seen)
            await eventually(lambda: seen == [1], "the token")
            if is_frozen:
                valkey.pause()
            await eventually(lambda: seen == [1, None], "its end")
            if is_frozen:
                valkey.resume()
            await publisher.publish([publication(version=2)], now=CLOCK.now())
            await eventually(lambda: seen == [1, None, 2], "the next")
            group.cancel_scope.cancel()


def reads(client: SyncRedis) -> int:
    """How often a token was read."""
    count: int = client.info("commandstats")["cmdstat_hgetall"]["calls"]
    return count


async def test_watch_drops_what_is_below_its_version(shared_valkey: Valkey) -> None:
    """An older message says nothing, not even that a token has gone."""
    seen: list[int | None] = []
    async with publishing(shared_valkey.url) as publisher, reader(shared_valkey) as tokens:
        await publisher.publish([publication(version=5)], now=CLOCK.now())
        async with anyio.create_task_group() as group:
            await group.start(following, tokens, seen)
            await eventually(lambda: seen == [5], "the token")
            with shared_valkey.client() as client:
                key = KEYS.token("acme")
                client.hset(key, "version", 4)
                before = reads(client)
                for message in ('{"version":4,"state":"expired"}', "[]", "{", '{"version":"x"}'):
                    client.publish(key, message)
                await eventually(lambda: reads(client) >= before + 3, "a look for each odd one")
                await anyio.sleep(0.05)
                assert reads(client) == before + 3, "the older one was worth no look"
                client.hset(key, "version", 6)
                client.publish(key, "{}")
            await eventually(lambda: seen == [5, 6], "the newer one")
            group.cancel_scope.cancel()


async def test_reject_says_the_version(shared_valkey: Valkey) -> None:
    async with publishing(shared_valkey.url) as publisher, reader(shared_valkey) as tokens:
        await publisher.publish([publication(version=7)], now=CLOCK.now())
        token = await tokens.get("acme")
        assert token is not None
        await tokens.reject("acme", token)
    with shared_valkey.client() as client:
        assert client.get(KEYS.rejected("acme")) == "7"
        assert 0 < client.ttl(KEYS.rejected("acme")) <= REJECTED_LIFE


def test_the_client_can_be_copied() -> None:
    tree = ast.parse(inspect.getsource(client_module))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    assert imported == {
        *("asyncio", "collections", "dataclasses", "json", "time", "typing", "urllib", "redis"),
    }
