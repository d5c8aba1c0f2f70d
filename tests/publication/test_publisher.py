"""One atomic publish: the newer version wins, and nothing readable has ended (G1, G4)."""

import json
import random
from dataclasses import replace

import anyio
import pytest

from refresher.clock import Clock
from refresher.domain.grants import GrantKind, GrantState, Publication
from refresher.domain.secret import Secret
from refresher.errors import PublicationUnavailable
from refresher.logs import Event
from refresher.publication.reports import Outcome
from refresher.publication.server.connection import POOL_SIZE
from tests.publication.world import (
    CANARY,
    CLOCK,
    KEYS,
    ShiftedClock,
    lines_of,
    logged,
    publication,
    publishing,
)
from tests.support.valkey import Valkey
from tests.support.waiting import PATIENCE

TOKEN, STATUS = KEYS.token("acme"), KEYS.status("acme")


async def publish(
    valkey: Valkey, *batch: Publication, force: tuple[str, ...] = (), clock: Clock = CLOCK
) -> Outcome:
    async with publishing(valkey.url, clock) as publisher:
        report = await publisher.publish(batch, now=clock.now(), force=force)
    return report.tokens[batch[0].grant.name]


async def test_the_token_hash_holds_what_the_contract_says(shared_valkey: Valkey) -> None:
    row = publication(version=7, labels={"team": "sales"})
    row = replace(row, extras={"instance_url": "https://acme.example"})
    assert await publish(shared_valkey, row) is Outcome.WRITTEN
    with shared_valkey.client() as client:
        fields = client.hgetall(TOKEN)
        life = client.pttl(TOKEN) / 1000
    assert row.grant.expires_at is not None
    assert row.grant.issued_at is not None
    assert fields == {
        "access_token": f"{CANARY}-7",
        "token_type": "Bearer",
        "expires_at": str(int(row.grant.expires_at)),
        "issued_at": str(int(row.grant.issued_at)),
        "version": "7",
        "scope": "a b",
        "label.team": "sales",
        "instance_url": "https://acme.example",
    }
    assert 598 < life <= row.grant.expires_at - CLOCK.now() + 0.01


async def test_the_status_hash_leaves_out_what_is_none(shared_valkey: Valkey) -> None:
    fresh = publication("fresh", version=3, due_at=None)
    lost = publication(
        "lost",
        version=4,
        number=2,
        state=GrantState.REAUTHORIZATION_REQUIRED,
        reason="revoked:invalid_grant",
        due_at=None,
    )
    await publish(shared_valkey, fresh, lost)
    with shared_valkey.client() as client:
        fresh_fields, lost_fields = (client.hgetall(KEYS.status(n)) for n in ("fresh", "lost"))
        assert client.ttl(KEYS.status("fresh")) == -1
    assert fresh_fields.keys() == {"state", "since", "version", "expires_at", "revision"}
    assert (lost_fields["state"], lost_fields["reason"]) == (
        "reauthorization_required",
        "revoked:invalid_grant",
    )
    assert lost_fields["repair"].startswith("refresher login lost")


async def test_the_message_says_the_same_in_json(shared_valkey: Valkey) -> None:
    row = publication(version=7)
    with shared_valkey.client() as client, client.pubsub() as subscription:
        subscription.subscribe(TOKEN)
        assert subscription.get_message(timeout=PATIENCE)["type"] == "subscribe"
        await publish(shared_valkey, row)
        message = json.loads(subscription.get_message(timeout=PATIENCE)["data"])
        fields = client.hgetall(TOKEN)
    assert {key: str(value) for key, value in message.items()} == fields
    assert [type(message[key]) for key in ("version", "expires_at", "issued_at")] == [int] * 3


async def test_a_lower_version_never_overwrites(shared_valkey: Valkey) -> None:
    await publish(shared_valkey, publication(version=5))
    assert await publish(shared_valkey, publication(version=4)) is Outcome.REFUSED
    with shared_valkey.client() as client:
        assert client.hget(TOKEN, "access_token") == f"{CANARY}-5"
        assert client.hget(STATUS, "revision") == "5"


async def test_shuffled_publishers_end_at_the_newest(shared_valkey: Valkey) -> None:
    versions = list(range(1, 201))
    random.shuffle(versions)
    torn: list[dict[str, str]] = []
    some_at_once = anyio.Semaphore(POOL_SIZE)
    async with publishing(shared_valkey.url) as publisher:

        async def publish_one(version: int) -> None:
            async with some_at_once:
                await publisher.publish([publication(version=version)], now=CLOCK.now())
            with shared_valkey.client() as client:
                seen = client.hgetall(TOKEN)
            if seen["access_token"] != f"{CANARY}-{seen['version']}":
                torn.append(seen)

        async with anyio.create_task_group() as group:
            for version in versions:
                group.start_soon(publish_one, version)
    with shared_valkey.client() as client:
        assert client.hget(TOKEN, "version") == "200"
        assert client.hget(STATUS, "revision") == "200"
    assert torn == []


async def test_an_equal_version_is_rewritten_without_message(shared_valkey: Valkey) -> None:
    await publish(shared_valkey, publication(version=5, labels={"team": "old"}))
    with shared_valkey.client() as client, client.pubsub() as subscription:
        subscription.subscribe(TOKEN)
        subscription.get_message(timeout=PATIENCE)
        again = publication(version=5, life=300, labels={"team": "new"})
        assert await publish(shared_valkey, again) is Outcome.REWRITTEN
        assert subscription.get_message(timeout=0.05) is None
        assert client.hget(TOKEN, "label.team") == "new"
        assert 200 < client.pttl(TOKEN) / 1000 <= 300


async def test_a_version_that_was_lost_is_announced_again(shared_valkey: Valkey) -> None:
    await publish(shared_valkey, publication(version=5))
    with shared_valkey.client() as client, client.pubsub() as subscription:
        client.delete(TOKEN)
        subscription.subscribe(TOKEN)
        subscription.get_message(timeout=PATIENCE)
        assert await publish(shared_valkey, publication(version=5)) is Outcome.WRITTEN
        assert subscription.get_message(timeout=PATIENCE)["type"] == "message"


async def test_an_ended_token_is_not_written(shared_valkey: Valkey) -> None:
    await publish(shared_valkey, publication(version=1, life=60))
    assert await publish(shared_valkey, publication(version=2, life=-1)) is Outcome.LATE
    with shared_valkey.client() as client:
        assert client.hget(TOKEN, "version") == "1"
        assert client.hget(STATUS, "version") == "2"


async def test_a_frozen_server_writes_nothing_too_late(valkey: Valkey) -> None:
    async with publishing(valkey.url) as publisher:
        await publisher.connect()
        valkey.pause()
        with pytest.raises(PublicationUnavailable, match="no answer in time"):
            await publisher.publish([publication(life=1)], now=CLOCK.now())
        valkey.resume()
        with valkey.client() as client:
            calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
            assert calls == 1, "the script was executed, late"
            assert client.exists(TOKEN) == 0


async def test_a_frozen_server_still_writes_what_lives(valkey: Valkey) -> None:
    row = publication(life=30)
    async with publishing(valkey.url) as publisher:
        await publisher.connect()
        valkey.pause()
        with pytest.raises(PublicationUnavailable):
            await publisher.publish([row], now=CLOCK.now())
        valkey.resume()
    with valkey.client() as client:
        assert row.grant.expires_at is not None
        assert 0 < client.pttl(TOKEN) / 1000 <= row.grant.expires_at - CLOCK.now() + 0.01


async def test_a_static_token_without_end_has_no_ttl(shared_valkey: Valkey) -> None:
    await publish(shared_valkey, publication(version=1, life=60))
    await publish(shared_valkey, publication(version=2, life=None))
    with shared_valkey.client() as client:
        assert client.ttl(TOKEN) == -1
        assert client.hexists(TOKEN, "expires_at") is False


WITHDRAWN = {
    "removed grant": publication(version=6, state=GrantState.REMOVED),
    "revoked token": replace(publication(version=6), access_token=None),
}


@pytest.mark.parametrize("row", WITHDRAWN.values(), ids=WITHDRAWN.keys())
async def test_a_withdrawn_token_is_deleted(shared_valkey: Valkey, row: Publication) -> None:
    await publish(shared_valkey, publication(version=5))
    assert await publish(shared_valkey, row) is Outcome.REMOVED
    assert await publish(shared_valkey, row) is Outcome.ABSENT
    with shared_valkey.client() as client:
        assert client.exists(TOKEN) == 0
        assert client.hget(STATUS, "state") == row.grant.state.value


async def test_an_older_removal_spares_a_newer_token(shared_valkey: Valkey) -> None:
    await publish(shared_valkey, publication(version=6))
    removal = publication(version=5, state=GrantState.REMOVED)
    assert await publish(shared_valkey, removal) is Outcome.REFUSED
    with shared_valkey.client() as client:
        assert client.hget(TOKEN, "version") == "6"


async def test_a_foreign_version_yields_only_to_force(shared_valkey: Valkey) -> None:
    with shared_valkey.client() as client:
        client.hset(TOKEN, mapping={"version": 99, "access_token": "planted"})
        client.hset(STATUS, mapping={"revision": 99, "state": "fresh"})
        assert await publish(shared_valkey, publication(version=5)) is Outcome.REFUSED
        assert client.hget(TOKEN, "access_token") == "planted"
        forced = await publish(shared_valkey, publication(version=5), force=("acme",))
        assert forced is Outcome.WRITTEN
        assert client.hget(TOKEN, "version") == "5"
        assert client.hget(STATUS, "revision") == "5"


async def test_a_key_of_another_type_is_replaced(shared_valkey: Valkey) -> None:
    with shared_valkey.client() as client:
        client.set(TOKEN, "not a hash")
        assert await publish(shared_valkey, publication()) is Outcome.WRITTEN
        assert client.type(TOKEN) == "hash"


async def test_extras_never_replace_fields_of_the_contract(shared_valkey: Valkey) -> None:
    extras = {"access_token": "x", "version": "9", "expires_at": "1", "label.team": "x"}
    row = replace(publication(version=2, life=None, labels={"team": "sales"}), extras=extras)
    await publish(shared_valkey, row)
    with shared_valkey.client() as client:
        fields = client.hgetall(TOKEN)
    assert (fields["access_token"], fields["version"]) == (f"{CANARY}-2", "2")
    assert fields["label.team"] == "sales"
    assert "expires_at" not in fields


async def test_events_are_written_once_and_without_tokens(shared_valkey: Valkey) -> None:
    first, second = publication(version=1), publication(version=2, state=GrantState.DEGRADED)
    removal = publication(version=2, state=GrantState.REMOVED, revision=3)
    for row in (first, first, second, second, first, removal, removal):
        await publish(shared_valkey, row)
    with shared_valkey.client() as client:
        client.delete(TOKEN)
        await publish(shared_valkey, removal)
        entries = [fields for _, fields in client.xrange(KEYS.events)]
    assert [(one["event"], one["version"], one["state"]) for one in entries] == [
        ("published", "1", "fresh"),
        ("state", "1", "fresh"),
        ("published", "2", "degraded"),
        ("state", "2", "degraded"),
        ("state", "2", "removed"),
    ]
    assert CANARY not in str(entries)


async def test_the_events_come_back_after_a_flush(shared_valkey: Valkey) -> None:
    row = publication()
    await publish(shared_valkey, row)
    with shared_valkey.client() as client:
        client.flushall()
        await publish(shared_valkey, row)
        assert client.xlen(KEYS.events) == 2


async def test_a_forgotten_script_is_loaded_again(shared_valkey: Valkey) -> None:
    async with publishing(shared_valkey.url) as publisher:
        await publisher.connect()
        with shared_valkey.client() as client:
            client.script_flush()
        report = await publisher.publish([publication()], now=CLOCK.now())
    assert report.tokens == {"acme": Outcome.WRITTEN}
    assert report.statuses == {"acme": Outcome.WRITTEN}


async def test_every_token_key_ends_unless_static(shared_valkey: Valkey) -> None:
    batch = [
        publication(f"grant-{i}", number=i, life=None if i % 10 == 0 else 5 + i)
        for i in range(1, 201)
    ]
    await publish(shared_valkey, *batch)
    with shared_valkey.client() as client:
        for row in batch:
            life = client.pttl(KEYS.token(row.grant.name)) / 1000
            if row.grant.kind is GrantKind.STATIC:
                assert life == -0.001
            else:
                assert row.grant.expires_at is not None
                assert 0 < life <= row.grant.expires_at - CLOCK.now() + 0.01
        named = {KEYS.token(row.grant.name) for row in batch}
        named |= {KEYS.status(row.grant.name) for row in batch} | {KEYS.events}
        assert set(client.keys("*")) == named


@pytest.mark.parametrize("shift", [-90.0, 90.0], ids=["redis ahead", "redis behind"])
async def test_clocks_that_differ_shorten_no_life(shared_valkey: Valkey, shift: float) -> None:
    clock = ShiftedClock(shift)
    row = publication(issued_at=clock.now(), expires_at=clock.now() + 60)
    async with publishing(shared_valkey.url, clock) as publisher:
        with logged() as lines:
            await publisher.connect()
            await publisher.check_server()
        await publisher.publish([row], now=clock.now())
    with shared_valkey.client() as client:
        assert 59 < client.pttl(TOKEN) / 1000 <= 60
    doubted = lines_of(lines, Event.REDIS_DOUBTED)
    assert [round(line["offset_s"]) for line in doubted] == [-shift]


async def test_a_clock_stepped_since_is_measured_again(shared_valkey: Valkey) -> None:
    async with publishing(shared_valkey.url, ShiftedClock(0)) as publisher:
        await publisher.connect()
        clock = ShiftedClock(-3600)
        publisher._clock = clock
        row = publication(issued_at=clock.now(), expires_at=clock.now() + 60)
        report = await publisher.publish([row], now=clock.now())
    assert report.tokens == {"acme": Outcome.WRITTEN}
    with shared_valkey.client() as client:
        assert 59 < client.pttl(TOKEN) / 1000 <= 60


async def test_an_evicting_server_is_doubted_once(valkey: Valkey) -> None:
    valkey.restart(["--maxmemory", "50mb", "--maxmemory-policy", "volatile-lru"])
    async with publishing(valkey.url) as publisher:
        with logged() as lines:
            await publisher.connect()
            await publisher.check_server()
    (doubt,) = lines_of(lines, Event.REDIS_DOUBTED)
    assert "volatile-lru" in doubt["reason"]


def test_no_record_shows_its_token() -> None:
    assert CANARY not in repr(publication())
    assert repr(Secret(CANARY)) == "***"


async def test_a_clock_stepped_back_lengthens_no_life(shared_valkey: Valkey) -> None:
    """How much of its life is left cannot be told, but Redis counted on."""
    row = publication(life=60.0)
    async with publishing(shared_valkey.url) as publisher:
        await publisher.publish([row], now=CLOCK.now())
        with shared_valkey.client() as client:
            client.pexpire(TOKEN, 20_000)  # forty seconds later
        publisher._clock = clock = ShiftedClock(-3600)
        report = await publisher.publish([row], now=clock.now())
    assert report.tokens == {"acme": Outcome.LATE}
    with shared_valkey.client() as client:
        assert 18 < client.pttl(TOKEN) / 1000 <= 20


async def test_a_token_of_the_future_is_not_published(shared_valkey: Valkey) -> None:
    clock = ShiftedClock(-3600)
    assert await publish(shared_valkey, publication(life=60.0), clock=clock) is Outcome.LATE
    with shared_valkey.client() as client:
        assert client.exists(TOKEN) == 0
        assert client.hget(STATUS, "state") == "fresh"


async def test_a_static_token_ends_by_the_calendar(shared_valkey: Valkey) -> None:
    row = publication(life=60.0, kind=GrantKind.STATIC)
    assert await publish(shared_valkey, row, clock=ShiftedClock(-10)) is Outcome.WRITTEN
    with shared_valkey.client() as client:
        assert 58 < client.pttl(TOKEN) / 1000 <= 60


async def test_a_clock_that_leapt_ahead_is_measured_again(shared_valkey: Valkey) -> None:
    """Redis would take a time of sending in its future for no delay at all."""
    clock = ShiftedClock(0)
    async with publishing(shared_valkey.url, clock) as publisher:
        await publisher.connect()
        clock._shift = 3600
        row = publication(issued_at=clock.now(), expires_at=clock.now() + 60)
        await publisher.publish([row], now=clock.now())
        (offset,) = publisher._offsets.values()
        assert round(offset.seconds) == -3600
