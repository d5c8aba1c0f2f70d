"""What consumers reject: read bounded, joined before it is handed out, deleted once taken."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from redis import Redis

from refresher.domain.requests import Rejected
from refresher.domain.secret import Secret
from refresher.errors import VaultUnavailable
from refresher.logs import Event
from refresher.publication import inbox as inbox_module
from refresher.publication.inbox import AT_ONCE, PAUSE, Inbox, short_word
from refresher.publication.mirror.earlier_life import EarlierLives
from tests.publication.world import (
    CLOCK,
    KEYS,
    Rows,
    connected,
    lines_of,
    logged,
    mirroring,
    publication,
    publishing,
)
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

LAST_ID = "18446744073709551615-18446744073709551615"


class Desk:
    """A handler that remembers, and refuses as told."""

    def __init__(self, *, ahead: set[str] | None = None) -> None:
        self.batches: list[dict[str, Rejected]] = []
        self.refusals = 0
        """How many more batches the vault refuses."""
        self.ahead = ahead or set()

    async def __call__(self, rejected: Mapping[str, Rejected]) -> set[str]:
        if self.refusals:
            self.refusals -= 1
            raise VaultUnavailable("full")
        self.batches.append(dict(rejected))
        return {name for name, one in rejected.items() if one.earlier_life is None} & self.ahead

    @property
    def said(self) -> dict[str, set[int]]:
        """Every version of each grant that was handed out."""
        said: dict[str, set[int]] = {}
        for batch in self.batches:
            for name, rejected in batch.items():
                said.setdefault(name, set()).update(rejected.versions)
        return said


@asynccontextmanager
async def reading(url: str, desk: Desk, **parts: object) -> AsyncIterator[Inbox]:
    """An inbox of its own, which nobody tells anything: it polls."""
    async with connected(url, **parts) as server, anyio.create_task_group() as group:
        inbox = Inbox(server=server, keys=KEYS, clock=CLOCK)
        group.start_soon(inbox.run, desk)
        yield inbox
        group.cancel_scope.cancel()


@asynccontextmanager
async def hearing(valkey: Valkey, desk: Desk, rows: Rows | None = None) -> AsyncIterator[None]:
    """An inbox beside a mirror, which tells it what was written."""
    rows = rows or Rows()
    async with publishing(valkey.url) as publisher, anyio.create_task_group() as group:
        earlier = EarlierLives(publisher=publisher, source=rows, clock=CLOCK)
        inbox = Inbox(server=publisher.server, keys=KEYS, clock=CLOCK, earlier=earlier)
        group.start_soon(inbox.run, desk)
        async with mirroring(valkey.url, rows, inbox=inbox) as mirror:
            await eventually(lambda: mirror.is_connected, "a connection")
            yield
        group.cancel_scope.cancel()


def ask(client: Redis, grant: str = "acme", version: int = 7, **fields: str) -> None:
    entry: dict[Any, Any] = {"grant": grant, "version": version, **fields}
    client.xadd(KEYS.requests, entry)


async def test_a_request_reaches_the_handler(shared_valkey: Valkey) -> None:
    desk = Desk()
    with shared_valkey.client() as client:
        async with reading(shared_valkey.url, desk):
            ask(client, reason="HTTP 401")
            await eventually(lambda: desk.batches, "the request")
            await eventually(lambda: not client.exists(KEYS.requests), "its deletion")
    assert desk.batches == [{"acme": Rejected(frozenset({7}), "http_401")}]


async def test_requests_wait_for_a_daemon_and_are_joined(shared_valkey: Valkey) -> None:
    desk = Desk()
    with shared_valkey.client() as client:
        for version in range(1, 101):
            ask(client, version=version)
            ask(client, "other", 5)
        async with reading(shared_valkey.url, desk):
            await eventually(lambda: desk.batches, "the requests")
            await eventually(lambda: not client.exists(KEYS.requests), "their deletion")
    assert desk.batches == [
        {"acme": Rejected(frozenset(range(1, 101)), ""), "other": Rejected(frozenset({5}), "")}
    ]


async def test_a_rejected_key_is_heard_taken_and_deleted(shared_valkey: Valkey) -> None:
    desk = Desk()
    with shared_valkey.client() as client:
        client.set(KEYS.rejected("before"), 5, ex=300)
        async with hearing(shared_valkey, desk):
            ask(client, "other", 8)
            await eventually(lambda: len(desk.said) == 2, "what was set before, and added since")
            client.set(KEYS.rejected("acme"), 7, ex=300)
            await eventually(lambda: "acme" in desk.said, "what was set since")
            await eventually(lambda: not client.keys("*re[jq]*"), "their deletion")
            await quiet(client)
    assert desk.said == {"before": {5}, "acme": {7}, "other": {8}}


async def quiet(client: Redis) -> None:
    """Wait until the inbox asks nothing for a quarter of a second, and so for ever."""
    looks = -1
    while looks != (looks := commands(client)["evalsha"] + commands(client)["getrange"]):  # noqa: ASYNC110  only Redis knows
        await anyio.sleep(0.25)


async def test_what_changed_meanwhile_is_taken_again(shared_valkey: Valkey) -> None:
    with shared_valkey.client() as client:

        class Overtaken(Desk):
            async def __call__(self, rejected: Mapping[str, Rejected]) -> set[str]:
                if not self.batches:
                    client.set(KEYS.rejected("acme"), 8)
                return await super().__call__(rejected)

        desk = Overtaken()
        client.set(KEYS.rejected("acme"), 7)
        async with hearing(shared_valkey, desk):
            await eventually(lambda: desk.said == {"acme": {7, 8}}, "both")
            await eventually(lambda: not client.exists(KEYS.rejected("acme")), "its deletion")


async def test_where_tracking_is_refused_both_are_looked_for(valkey: Valkey) -> None:
    desk = Desk()
    with valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-client|tracking")
        async with hearing(valkey, desk):
            client.set(KEYS.rejected("acme"), 7)
            ask(client, "other", 8)
            await eventually(lambda: len(desk.said) == 2, "both")


async def test_a_walk_over_many_keys_goes_on_where_it_was(shared_valkey: Valkey) -> None:
    desk, many = Desk(), 2 * AT_ONCE + 10
    with shared_valkey.client() as client:
        client.mset({KEYS.rejected(f"g{number}"): 7 for number in range(many)})
        client.mset({f"foreign:{number}": 7 for number in range(many)})
        async with hearing(shared_valkey, desk):
            await eventually(lambda: len(desk.said) == many, "all of them")
            await eventually(lambda: client.dbsize() < many + 10, "their deletion")
    assert max(len(batch) for batch in desk.batches) <= AT_ONCE


async def test_a_flush_does_not_end_the_reading(shared_valkey: Valkey) -> None:
    desk = Desk()
    with shared_valkey.client() as client:
        async with hearing(shared_valkey, desk):
            ask(client, "before")
            await eventually(lambda: desk.batches, "the first request")
            client.flushall()
            client.script_flush()
            ask(client, "after")
            await eventually(lambda: "after" in desk.said, "the second request")


async def test_a_restarted_server_is_read_again(valkey: Valkey) -> None:
    desk = Desk()
    async with hearing(valkey, desk):
        with valkey.client() as client:
            ask(client, "before")
            await eventually(lambda: desk.batches, "the first request")
        valkey.restart()
        with valkey.client() as client:
            ask(client, "after")
            client.set(KEYS.rejected("acme"), 7)
            await eventually(lambda: len(desk.said) == 3, "the others")


@pytest.mark.parametrize(
    "fields",
    [
        {"reason": "401"},
        {"grant": "two words", "version": "7"},
        {"grant": "acme"},
        {"grant": "acme", "version": "latest"},
        {"grant": "acme", "version": "-1"},
        {"grant": "acme", "version": str(2**53 + 1)},
    ],
    ids=["no grant", "no valid grant", "no version", "no number", "negative", "too large"],
)
async def test_a_malformed_request_is_dropped_with_a_line(
    shared_valkey: Valkey, fields: dict[str, str]
) -> None:
    desk = Desk()
    with logged() as lines, shared_valkey.client() as client:
        client.xadd(KEYS.requests, fields)
        ask(client, "good")
        async with reading(shared_valkey.url, desk):
            await eventually(lambda: not client.exists(KEYS.requests), "the deletion of both")
    [line] = lines_of(lines, Event.REQUEST_DROPPED)
    assert (line["reason"], line["count"]) == ("malformed", 1)
    assert "two words" not in str(lines)
    assert desk.said == {"good": {7}}


async def test_what_the_vault_refuses_is_handed_out_again(shared_valkey: Valkey) -> None:
    desk = Desk()
    desk.refusals = 2
    with shared_valkey.client() as client:
        ask(client)
        client.set(KEYS.rejected("other"), 8)
        async with hearing(shared_valkey, desk):
            await eventually(lambda: desk.refusals == 0, "the refusals")
            await eventually(lambda: desk.said == {"acme": {7}, "other": {8}}, "both")
            await eventually(lambda: not client.keys("*re[jq]*"), "their deletion")


async def test_what_an_older_daemon_took_is_read(shared_valkey: Valkey) -> None:
    """It read in a group, and had not acknowledged what it died with."""
    desk = Desk()
    with shared_valkey.client() as client:
        ask(client)
        client.xgroup_create(KEYS.requests, "refresher", "0")
        client.xreadgroup("refresher", "daemon", {KEYS.requests: ">"})
        async with reading(shared_valkey.url, desk):
            await eventually(lambda: desk.said == {"acme": {7}}, "the request")
            await eventually(lambda: not client.exists(KEYS.requests), "its deletion")


@pytest.mark.parametrize("last", [LAST_ID, f"{2**60}-0"], ids=["the last", "far ahead"])
async def test_an_id_of_the_far_future_ends_nothing(shared_valkey: Valkey, last: str) -> None:
    desk = Desk()
    with logged() as lines, shared_valkey.client() as client:
        async with hearing(shared_valkey, desk):
            ask(client, "before")
            client.execute_command("XADD", KEYS.requests, last, "grant", "acme", "version", "7")
            await eventually(lambda: not client.exists(KEYS.requests), "the deletion")
            ask(client, "after")
            await eventually(lambda: "after" in desk.said, "the next request")
    assert desk.said.keys() == {"before", "acme", "after"}
    [line] = lines_of(lines, Event.REQUEST_DROPPED)
    assert line["reason"] == "far_future"


@pytest.mark.parametrize("key", [KEYS.requests, KEYS.rejected("acme")], ids=["stream", "key"])
async def test_a_key_of_another_type_heals(shared_valkey: Valkey, key: str) -> None:
    desk = Desk()
    with logged() as lines, shared_valkey.client() as client:
        async with hearing(shared_valkey, desk):
            for _ in range(3):
                client.hset(key, "field", "x")
                await eventually(lambda: not client.exists(key), "the deletion")
            ask(client)
            client.set(KEYS.rejected("other"), 8)
            await eventually(lambda: len(desk.said) == 2, "both ways")
    [line] = lines_of(lines, Event.REQUEST_DROPPED)
    assert (line["reason"], line["count"]) == ("wrong_type", 1)
    assert lines_of(lines, Event.REDIS_LOST) == []


async def test_what_is_large_is_dropped_unread(valkey: Valkey) -> None:
    """None of it comes here."""
    desk, large = Desk(), "x" * 2**22
    with logged() as lines, valkey.client() as client:
        for _ in range(4):
            ask(client, "large", reason=large)
            ask(client)
        client.set(KEYS.rejected("other"), large)
        before = client.info("stats")["total_net_output_bytes"]
        async with hearing(valkey, desk):
            await eventually(lambda: not client.keys("*re[jq]*"), "the deletion of all")
        after = client.info("stats")["total_net_output_bytes"]
    assert desk.said == {"acme": {7}}
    assert after - before < 2**18
    told = {line["reason"] for line in lines_of(lines, Event.REQUEST_DROPPED)}
    assert told == {"too_large", "malformed"}


async def test_many_empty_fields_are_large_as_well(shared_valkey: Valkey) -> None:
    with logged() as lines, shared_valkey.client() as client:
        client.execute_command("XADD", KEYS.requests, "*", *[""] * 2000)
        async with reading(shared_valkey.url, Desk()):
            await eventually(lambda: not client.exists(KEYS.requests), "its deletion")
    assert [line["reason"] for line in lines_of(lines, Event.REQUEST_DROPPED)] == ["too_large"]


def commands(client: Redis) -> Counter[str]:
    """Commands the server has carried out, those of scripts included, but not our looks."""
    stats = client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()})


async def flooded(valkey: Valkey, count: int) -> tuple[Desk, Counter[str]]:
    """COUNT entries, then one that somebody honest adds; what that cost."""
    desk = Desk()
    with valkey.client() as client:
        pipe = client.pipeline(transaction=False)
        for number in range(count):
            pipe.xadd(KEYS.requests, {"grant": f"g{number % 9}", "version": number + 1})
        pipe.execute()
        ask(client, "honest")
        before = commands(client)
        began = CLOCK.monotonic()
        async with hearing(valkey, desk):
            await eventually(lambda: "honest" in desk.said, "the honest one")
            took = CLOCK.monotonic() - began
            await eventually(lambda: not client.exists(KEYS.requests), "the deletion of all")
        print(f"{count} requests before an honest one: it was taken after {took:.2f} s")  # noqa: T201
        return desk, commands(client) - before


async def test_a_flood_is_joined_before_the_vault_is_asked(valkey: Valkey) -> None:
    desk, sent = await flooded(valkey, 5 * AT_ONCE)
    assert len(desk.batches) == 6
    assert sent["evalsha"] < 20  # of the mirror: none, it has nothing to publish
    assert max(len(batch) for batch in desk.batches) <= 10


@pytest.mark.long
async def test_sixty_thousand_requests_cost_sixty_batches(valkey: Valkey) -> None:
    desk, _ = await flooded(valkey, 60_000)
    assert len(desk.batches) == 61


async def test_a_key_set_very_often_is_joined(valkey: Valkey) -> None:
    desk, count = Desk(), 20_000
    with valkey.client() as client:
        async with hearing(valkey, desk):
            before, began = commands(client), CLOCK.monotonic()
            pipe = client.pipeline(transaction=False)
            for number in range(count):
                pipe.set(KEYS.rejected("acme"), number + 1, ex=300)
            await anyio.to_thread.run_sync(pipe.execute)
            await eventually(lambda: count in desk.said.get("acme", ()), "the last one")
            looks = (CLOCK.monotonic() - began) / PAUSE
        sent = commands(client) - before
    assert len(desk.batches) <= sent["getrange"] <= looks + 5


async def test_a_token_of_an_earlier_life_can_be_rejected(shared_valkey: Valkey) -> None:
    """The vault was lost: what consumers read is newer than all it knows."""
    now_ms = int(CLOCK.now() * 1000)
    rows, desk = Rows(publication(version=now_ms - 60_000, issued_at=CLOCK.now() - 60)), Desk()
    desk.ahead = {"acme"}
    async with publishing(shared_valkey.url) as publisher:
        await publisher.publish([publication(version=now_ms)], now=CLOCK.now())
    with shared_valkey.client() as client:
        async with hearing(shared_valkey, desk, rows):
            ask(client, version=now_ms)
            await eventually(lambda: len(desk.batches) == 2, "the second look")
    versions = frozenset({now_ms})
    assert desk.batches == [
        {"acme": Rejected(versions, "", None)},
        {"acme": Rejected(versions, "", now_ms)},
    ]


async def test_a_version_that_no_life_made_is_asked_about_once(shared_valkey: Valkey) -> None:
    rows, desk = Rows(publication(version=7)), Desk(ahead={"acme"})
    with shared_valkey.client() as client:
        async with hearing(shared_valkey, desk, rows):
            ask(client, version=2**53)
            await eventually(lambda: not client.exists(KEYS.requests), "its deletion")
    assert len(desk.batches) == 1


async def test_a_missing_permission_is_doubted_once(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "RETRY", 0.01)
    with valkey.client() as client:
        client.execute_command(
            *("ACL", "SETUSER", "daemon", "reset", "on", ">secret", "~*", "&*", "+@all"),
            "-xrange",
        )
        with logged() as lines:
            async with reading(valkey.url, Desk(), username="daemon", password=Secret("secret")):
                ask(client)
                await eventually(lambda: len(client.acl_log()) > 0, "a refusal")
                await eventually(lambda: client.acl_log()[0]["count"] > 5, "more of them")
    [doubt] = lines_of(lines, Event.REDIS_DOUBTED)
    assert "the ACL of refresher's user forbids" in doubt["reason"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"", ""),
        (b"401", "401"),
        (b"HTTP 401 (expired)", "http_401_expired"),
        (b"Token expired!", "token_expired"),
        (b"\x1b[31m401\r\n\xff", "31m401"),
        (b"canary-Zm9vYmFyYmF6cXV4", "other"),
    ],
)
def test_a_reason_is_a_short_word(text: bytes, word: str) -> None:
    assert short_word(text) == word
