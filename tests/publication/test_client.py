"""The reader for Python consumers, against what the publisher really writes."""

import ast
import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import anyio
import pytest
from redis.asyncio import Redis

from refresher import client as client_module
from refresher.client import Token, TokenReader
from tests.publication.world import CANARY, CLOCK, KEYS, publication, publishing
from tests.support.valkey import Valkey


@asynccontextmanager
async def reader(valkey: Valkey, *, decode: bool = False) -> AsyncIterator[TokenReader]:
    async with Redis.from_url(valkey.url, decode_responses=decode) as redis:
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
                seen.append(token.version)
                if token.version == 3:
                    break
                for _ in range(2):
                    row = publication(version=token.version + 1)
                    await publisher.publish([row], now=CLOCK.now())
    assert seen == [1, 2, 3]


async def test_watch_goes_on_after_a_restart(valkey: Valkey) -> None:
    async with publishing(valkey.url) as publisher, reader(valkey) as tokens:
        await publisher.publish([publication(version=1)], now=CLOCK.now())
        async with aclosing(tokens.watch("acme")) as watched:
            assert (await anext(watched)).version == 1
            valkey.restart()
            await publisher.server.disconnect()
            await publisher.publish([publication(version=2)], now=CLOCK.now())
            with anyio.fail_after(10):
                assert (await anext(watched)).version == 2


async def test_reject_writes_a_request(shared_valkey: Valkey) -> None:
    async with publishing(shared_valkey.url) as publisher, reader(shared_valkey) as tokens:
        await publisher.publish([publication(version=7)], now=CLOCK.now())
        await tokens.reject("acme", await tokens.get("acme"), "401")
        await tokens.reject("acme")
    with shared_valkey.client() as client:
        entries = [fields for _, fields in client.xrange(KEYS.requests)]
    assert entries == [
        {"grant": "acme", "reason": "401", "version": "7"},
        {"grant": "acme", "reason": ""},
    ]
    assert CANARY not in str(entries)


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
    assert imported == {"asyncio", "collections", "dataclasses", "typing", "redis"}
