"""No single key ends a session: what holds something else is replaced, with one line."""

from typing import Any

import pytest
from redis import Redis

from refresher.domain.grants import GrantState
from refresher.logs import Event
from refresher.publication.mirror import heartbeat
from tests.publication.world import (
    KEYS,
    Rows,
    is_quiet,
    lines_of,
    logged,
    mirroring,
    publication,
    settled,
)
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

TOKEN, STATUS, DAEMON = KEYS.token("acme"), KEYS.status("acme"), KEYS.daemon("one")

TYPES: dict[str, tuple[str, list[Any]]] = {
    "string": ("SET", ["x"]),
    "list": ("LPUSH", ["x"]),
    "set": ("SADD", ["x"]),
    "zset": ("ZADD", [1, "x"]),
    "hash": ("HSET", ["x", "x"]),
    "stream": ("XADD", ["*", "x", "x"]),
    "spent stream": ("XADD", ["18446744073709551615-18446744073709551615", "x", "x"]),
}


def spoil(client: Redis, key: str, kind: str) -> None:
    command, arguments = TYPES[kind]
    client.delete(key)
    client.execute_command(command, key, *arguments)  # type: ignore[no-untyped-call]  # redis-py


SPOILT = [
    (key, kind)
    for key in (TOKEN, STATUS, KEYS.events, DAEMON)
    for kind in TYPES
    if kind != ("stream" if key == KEYS.events else "hash")
]


@pytest.mark.parametrize(("key", "kind"), SPOILT, ids=lambda part: part.rpartition("refresher:")[2])
@pytest.mark.parametrize("is_early", [True, False], ids=["before the start", "while it runs"])
async def test_a_key_of_another_kind_is_replaced(
    shared_valkey: Valkey, monkeypatch: pytest.MonkeyPatch, key: str, kind: str, *, is_early: bool
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_EVERY", 0.05)
    rows = Rows(publication(), publication("other", number=2))
    with shared_valkey.client() as client:

        def is_mended() -> bool:
            if client.type(key) != ("stream" if key == KEYS.events else "hash"):
                return False
            return key != KEYS.events or len(client.xrange(key)) >= 2

        if is_early:
            spoil(client, key, kind)
        async with settled(shared_valkey, rows) as (mirror, lines):
            if not is_early:
                spoil(client, key, kind)
            for number, name in enumerate(("acme", "other"), 1):
                rows.put(publication(name, number=number, version=2))
                mirror.publish(name)
            await eventually(is_mended, "the key")
            await eventually(lambda: lines_of(lines, Event.MIRROR_REPAIRED), "its line")
            await eventually(lambda: is_quiet(mirror), "rest")
            assert len(lines_of(lines, Event.MIRROR_REPAIRED)) == 1
            assert lines_of(lines, Event.REDIS_LOST) == []
            assert lines_of(lines, Event.REDIS_DOUBTED) == []
            assert client.hget(TOKEN, "version") == client.hget(STATUS, "version") == "2"
            assert client.hget(KEYS.token("other"), "version") == "2"


@pytest.mark.parametrize("state", [GrantState.EXPIRED, GrantState.REMOVED])
async def test_a_key_of_another_kind_goes_where_no_token_may_be(
    shared_valkey: Valkey, state: GrantState
) -> None:
    rows = Rows(publication(version=5, life=-60, state=state))
    async with settled(shared_valkey, rows) as (mirror, lines):
        with shared_valkey.client() as client:
            client.set(TOKEN, "planted")
            await eventually(lambda: not client.exists(TOKEN), "its removal")
        await eventually(lambda: is_quiet(mirror), "rest")
        await eventually(lambda: lines_of(lines, Event.MIRROR_REPAIRED), "its line")
        assert len(lines_of(lines, Event.MIRROR_REPAIRED)) == 1


async def test_all_keys_spoilt_at_once_are_one_line_each(shared_valkey: Valkey) -> None:
    rows = Rows(*(publication(f"grant-{i}", number=i) for i in range(1, 101)))
    with shared_valkey.client() as client:
        for i in range(1, 101):
            spoil(client, KEYS.token(f"grant-{i}"), "list")
            spoil(client, KEYS.status(f"grant-{i}"), "string")
        spoil(client, KEYS.events, "set")
        with logged() as lines:
            async with mirroring(shared_valkey.url, rows):
                await eventually(
                    lambda: len(lines_of(lines, Event.MIRROR_REPAIRED)) == 2, "the lines"
                )
        assert sorted(line["count"] for line in lines_of(lines, Event.MIRROR_REPAIRED)) == [1, 100]
        assert client.hget(KEYS.token("grant-100"), "version") == "1"
        assert client.xlen(KEYS.events) == 200
