"""What Redis forbids is one standing doubt: the rest goes on, and nothing is begun anew."""

from typing import Any

import anyio
import pytest

from refresher.domain.secret import Secret
from refresher.logs import Event
from refresher.publication.mirror import heartbeat, reconciler
from refresher.publication.mirror.life import Mirror
from refresher.publication.server import rights
from tests.publication.world import KEYS, Rows, lines_of, logged, mirroring, publication
from tests.support.valkey import Valkey
from tests.support.waiting import PATIENCE, eventually

TOKEN, STATUS = KEYS.token("acme"), KEYS.status("acme")
ALL = ("~refresher:*", "&refresher:*", "+@all")
WHO = {"username": "daemon", "password": Secret("secret")}


@pytest.fixture(autouse=True)
def _tried_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "TRY_EVERY", 0.06)
    monkeypatch.setattr(heartbeat, "BEAT_EVERY", 0.04)
    monkeypatch.setattr(reconciler, "FORBIDDEN_PAUSE", 0.02)


def allow(valkey: Valkey, *rules: str) -> None:
    with valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "daemon", "reset", "on", ">secret", *ALL, *rules)


def doubts(lines: list[Any]) -> list[str]:
    return [line["reason"].partition(": ")[2] for line in lines_of(lines, Event.REDIS_DOUBTED)]


USER = "the ACL of refresher's user forbids"
SCRIPT = "; the publish script uses it"
STANDING = {
    "the channel": (["resetchannels"], f"{USER} its channels: add &PREFIX*{SCRIPT}"),
    "other channels only": (
        ["resetchannels", "&other:*"],
        f"{USER} its channels: add &PREFIX*{SCRIPT}",
    ),
    "publish": (["-publish"], f"{USER} publish: add +publish{SCRIPT}"),
    "hset": (["-hset"], f"{USER} hset: add +hset"),
    "pexpire": (["-pexpire"], f"{USER} pexpire: add +pexpire{SCRIPT}"),
    "type": (["-type"], f"{USER} type: add +type{SCRIPT}"),
    "xadd": (["-xadd"], f"{USER} xadd: add +xadd"),
    "hmget": (["-hmget"], f"{USER} hmget: add +hmget"),
    "evalsha": (["-evalsha"], f"{USER} evalsha: add +evalsha"),
    "hgetall": (["-hgetall"], f"{USER} hgetall: add +hgetall"),
    "pttl": (["-pttl"], f"{USER} pttl: add +pttl"),
    "scan": (["-scan"], f"{USER} scan: add +scan"),
    "expire": (["-expire"], f"{USER} expire: add +expire"),
    "keys of statuses": (
        ["resetkeys", "~refresher:token:*", "~refresher:daemon:*", "~refresher:events"],
        f"{USER} its keys: add ~PREFIX*",
    ),
    "keys of one grant": (
        ["resetkeys", "~refresher:*:other", "~refresher:daemon:*", "~refresher:events"],
        f"{USER} its keys: add ~PREFIX*",
    ),
}


@pytest.mark.parametrize(("rules", "named"), STANDING.values(), ids=STANDING.keys())
async def test_a_missing_right_stands_and_is_told_once(
    valkey: Valkey, rules: list[str], named: str
) -> None:
    allow(valkey, *rules)
    rows = Rows(publication(), publication("other", number=2))
    with logged() as lines:
        async with mirroring(valkey.url, rows, sweep_every=0.1, **WHO) as mirror:
            await eventually(lambda: mirror.doubt, "the doubt")
            await eventually(lambda: lines_of(lines, Event.MIRROR_REBUILT), "the rebuild")
            for version in (2, 3):
                for number, name in enumerate(("acme", "other"), 1):
                    rows.put(publication(name, number=number, version=version))
                    mirror.publish(name)
                await mirror._worklist.wait_until_sent()
                await anyio.sleep(0.1)
            assert mirror.is_connected
            assert named in str(mirror.doubt)
            assert lines_of(lines, Event.REDIS_LOST) == []
            assert len(lines_of(lines, Event.REDIS_CONNECTED)) == 1
            assert len(lines_of(lines, Event.MIRROR_REBUILT)) == 1
            told = doubts(lines)
            assert len(told) == len(set(told)) <= 2
            assert any(one.startswith(named) for one in told), told
            allow(valkey)
            await eventually(lambda: mirror.doubt is None, "the end of the doubt")
            await eventually(lambda: len(lines_of(lines, Event.MIRROR_REBUILT)) == 2, "a rebuild")
            assert doubts(lines) == told
        assert lines_of(lines, Event.MIRROR_REBUILT)[1]["reason"] == "permitted"
    with valkey.client() as client:
        assert client.hget(TOKEN, "version") == "3"
        assert client.hget(STATUS, "version") == "3"


async def test_a_forbidden_look_is_tried_again_by_itself(valkey: Valkey) -> None:
    """However many tries there are before the next walk or the look at what was written."""
    allow(valkey, "-pttl")
    with logged() as lines:
        async with mirroring(valkey.url, Rows(publication()), look_after=60.0, **WHO) as mirror:
            mirror._worklist.suspect("acme")
            await eventually(lambda: mirror.doubt, "the doubt")
            standing = mirror._publisher.rights._standing
            tries = rights.TRIES + 2
            begun = 0
            begin_try = mirror._publisher.rights.begin_try

            def counted() -> bool:
                nonlocal begun
                begun += 1
                return begin_try()

            setattr(mirror._publisher.rights, "begin_try", counted)  # noqa: B010  as _note_rest
            await eventually(lambda: begun > tries, "tries")
            assert standing
            assert mirror.doubt
    assert len(lines_of(lines, Event.REDIS_DOUBTED)) == 1
    assert len(lines_of(lines, Event.MIRROR_REBUILT)) == 1


async def publish_next(mirror: Mirror, rows: Rows, version: int) -> None:
    rows.put(publication(version=version))
    mirror.publish("acme")
    await mirror._worklist.wait_until_sent()


async def test_without_the_channel_tokens_are_still_written(valkey: Valkey) -> None:
    allow(valkey, "resetchannels")
    rows = Rows(publication(version=1))
    published: list[int] = []
    told = lambda _, version, __: published.append(version)  # noqa: E731  one of three arguments
    with logged():
        async with mirroring(valkey.url, rows, on_published=told, **WHO) as mirror:
            await eventually(lambda: mirror.doubt, "the doubt")
            await publish_next(mirror, rows, 2)
            assert published == [2], "whoever waits for it can read it"
            with valkey.client() as client, client.pubsub() as subscription:
                assert client.hget(TOKEN, "version") == "2"
                assert 590 < client.pttl(TOKEN) / 1000 <= 600
                assert client.hget(STATUS, "version") == "2"
                subscription.subscribe(TOKEN)
                subscription.get_message(timeout=PATIENCE)
                allow(valkey)
                heard: list[Any] = []

                def hears() -> list[Any]:
                    heard.extend(filter(None, [subscription.get_message(timeout=0)]))
                    return heard

                await eventually(hears, "the message that nobody had heard")
            assert '"version":2' in heard[0]["data"]


async def test_a_token_that_cannot_end_is_not_left(valkey: Valkey) -> None:
    allow(valkey, "-pexpire")
    with logged():
        async with mirroring(valkey.url, Rows(publication()), **WHO) as mirror:
            await eventually(lambda: mirror.doubt, "the doubt")
            with valkey.client() as client:
                assert client.exists(TOKEN) == 0


async def test_a_heartbeat_that_cannot_end_is_not_left(valkey: Valkey) -> None:
    allow(valkey, "-expire")
    with logged():
        async with mirroring(valkey.url, Rows(publication()), **WHO) as mirror:
            await eventually(lambda: mirror.doubt, "the doubt")
            with valkey.client() as client:
                await eventually(lambda: not client.exists(KEYS.daemon("one")), "its absence")
                await eventually(lambda: client.hget(TOKEN, "version") == "1", "the token")


async def test_a_refused_ping_is_an_answer(valkey: Valkey) -> None:
    allow(valkey, "-ping")
    with logged() as lines:
        async with mirroring(valkey.url, Rows(publication()), **WHO) as mirror:
            await eventually(lambda: mirror.is_connected, "a connection")
            await anyio.sleep(1.2)  # two pings
            assert mirror.is_connected
    assert lines_of(lines, Event.REDIS_LOST) == []


async def test_polling_without_exists_is_a_doubt(valkey: Valkey) -> None:
    allow(valkey, "-exists", "-client|tracking")
    with logged() as lines:
        async with mirroring(valkey.url, Rows(publication()), **WHO) as mirror:
            await eventually(lambda: mirror.doubt, "the doubt")
            assert "add +exists" in str(mirror.doubt)
            assert mirror.is_connected
    assert lines_of(lines, Event.REDIS_LOST) == []


async def test_what_is_forbidden_is_tried_with_one_grant_only(valkey: Valkey) -> None:
    allow(valkey, "-hset")
    rows = Rows(*(publication(f"grant-{i}", number=i) for i in range(1, 101)))

    def calls() -> tuple[int, int]:
        with valkey.client() as client:
            stats = client.info("commandstats")
        return stats["cmdstat_evalsha"]["calls"], stats.get("cmdstat_scan", {"calls": 0})["calls"]

    with logged() as lines:
        async with mirroring(valkey.url, rows, **WHO) as mirror:
            await eventually(lambda: lines_of(lines, Event.MIRROR_REBUILT), "the rebuild")
            assert mirror.doubt
            scripts, tries = calls()
            await eventually(lambda: calls()[1] >= tries + 5, "some tries, each with one SCAN")
            scripts_after, tries_after = calls()
    assert lines_of(lines, Event.MIRROR_REBUILT)[0]["count"] == 0, "nothing could be written"
    assert scripts_after - scripts <= 2 * (tries_after - tries + 1), "its token and status"
