"""Sentinels and clusters that cannot be used say why, in words of their own."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from redis import Redis

from refresher.demo.private_server import PrivateValkey, free_port
from refresher.domain.secret import Secret
from refresher.errors import PublicationUnavailable
from refresher.logs import Event
from refresher.publication.server.connection import Address
from refresher.publication.server.masters import Masters
from refresher.publication.server.opening import open_server
from tests.pages.reading import ROOT
from tests.publication.test_probing import bad, found
from tests.publication.world import (
    KEYS,
    Rows,
    connected,
    lines_of,
    logged,
    mirroring,
    publication,
    settled,
)
from tests.support.many_servers import NAME, SLOTS, ask
from tests.support.valkey import Valkey
from tests.support.waiting import eventually


@pytest.fixture
def sentinel() -> Iterator[PrivateValkey]:
    """One that watches nothing yet."""
    server = PrivateValkey("--sentinel", file=True)
    server.start()
    yield server
    server.stop()


@contextmanager
def started_node() -> Iterator[Valkey]:
    server = Valkey("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def node() -> Iterator[Valkey]:
    """One of a cluster, without slots."""
    with started_node() as server:
        yield server


def watch(sentinel: PrivateValkey, valkey: PrivateValkey) -> str:
    """Let SENTINEL watch VALKEY; the URL of what it names."""
    ask(sentinel, "SENTINEL", "MONITOR", NAME, "127.0.0.1", valkey.port, 1)
    return f"redis+sentinel://127.0.0.1:{sentinel.port}/{NAME}"


async def refused(url: str) -> str:
    """Why nothing at URL can be found."""
    async with connected(url) as server:
        with pytest.raises(PublicationUnavailable) as caught:
            await server.find()
    return str(caught.value)


async def test_no_sentinel_answers() -> None:
    port, other = free_port(), free_port()
    told = await refused(f"redis+sentinel://user:secret@127.0.0.1:{port},127.0.0.1:{other}/acme")
    assert "acme of the sentinels 127.0.0.1" in told
    assert "no sentinel answers" in told
    assert f"127.0.0.1:{other}: connection refused" in told
    assert "secret" not in told


async def test_a_name_that_no_sentinel_knows(sentinel: PrivateValkey) -> None:
    told = await refused(f"redis+sentinel://127.0.0.1:{sentinel.port}/acme")
    assert "the sentinels know no master of this name" in told


async def test_what_answers_is_no_sentinel(shared_valkey: Valkey) -> None:
    told = await refused(f"redis+sentinel://127.0.0.1:{shared_valkey.port}/{NAME}")
    assert "does not know the command SENTINEL" in told


async def test_what_answers_is_a_sentinel(sentinel: PrivateValkey) -> None:
    with logged() as lines:
        async with mirroring(sentinel.url, Rows()):
            await eventually(lambda: lines_of(lines, Event.REDIS_LOST), "the loss is told")
    assert "write redis+sentinel:// in its URL" in lines_of(lines, Event.REDIS_LOST)[0]["reason"]


async def test_what_answers_is_no_cluster(shared_valkey: Valkey) -> None:
    told = await refused(f"redis+cluster://127.0.0.1:{shared_valkey.port}")
    assert "no node answers" in told
    assert "write redis:// in its URL" in told


async def test_a_cluster_without_slots_is_down(node: Valkey) -> None:
    told = await refused(f"redis+cluster://127.0.0.1:{node.port}")
    assert "no node of the cluster has a slot" in told


async def test_a_cluster_that_lacks_slots_is_waited_for(node: Valkey) -> None:
    ask(node, "CLUSTER", "ADDSLOTSRANGE", 0, 100)
    with logged() as lines:
        async with mirroring(f"redis+cluster://127.0.0.1:{node.port}", Rows(publication())):
            await eventually(lambda: lines_of(lines, Event.REDIS_LOST), "the loss is told")
            ask(node, "CLUSTER", "ADDSLOTSRANGE", 101, 16383)
            await eventually(lambda: lines_of(lines, Event.MIRROR_REBUILT), "the rebuild")
        with node.client() as client:
            assert client.hget("refresher:token:acme", "version") == "1"


async def test_sentinel_and_data_have_passwords_of_their_own(
    sentinel: PrivateValkey, valkey: Valkey
) -> None:
    url = watch(sentinel, valkey)
    ask(sentinel, "ACL", "SETUSER", "asking", "on", ">ours", "+@all")
    ask(sentinel, "ACL", "SETUSER", "default", "resetpass")
    ask(valkey, "CONFIG", "SET", "requirepass", "theirs")
    told = await refused(f"{url}?sentinel_username=asking&sentinel_password=theirs")
    assert "no sentinel answers" in told
    assert "does not accept the user name and password" in told
    assert "asks for a password" in await refused(url)
    right = url.replace("://", "://:theirs@") + "?sentinel_username=asking&sentinel_password=ours"
    async with connected(right) as server:
        await server.find()
        assert await server.execute("HGETALL", KEYS.token("acme")) == {}


async def test_a_master_that_became_a_replica_behind_its_sentinels_is_followed(
    sentinel: PrivateValkey, valkey: Valkey, shared_valkey: Valkey
) -> None:
    """``FAILOVER`` does that, and sentinels name the old master on for a minute."""
    url = watch(sentinel, valkey)
    ask(sentinel, "SENTINEL", "SET", NAME, "down-after-milliseconds", 300_000)
    with logged() as lines:
        async with mirroring(url, Rows(publication())) as mirror:
            await eventually(lambda: mirror.is_connected, "a connection")
            ask(valkey, "REPLICAOF", "127.0.0.1", shared_valkey.port)
            mirror.publish("acme")
            await eventually(
                lambda: lines_of(lines, Event.REDIS_CONNECTED)[1:], "the other is found"
            )
            assert lines_of(lines, Event.REDIS_CONNECTED)[-1]["server"] == (
                f"127.0.0.1:{shared_valkey.port}"
            )
    assert "a replica" in lines_of(lines, Event.REDIS_LOST)[0]["reason"]
    with shared_valkey.client() as client:
        assert client.hget("refresher:token:acme", "version") == "1"


async def test_sentinels_that_are_gone_are_told_once(
    sentinel: PrivateValkey, valkey: Valkey
) -> None:
    url = watch(sentinel, valkey)
    with logged() as lines:
        async with mirroring(url, Rows(publication())) as mirror:
            await eventually(lambda: mirror.is_connected, "a connection")
            sentinel.kill()
            await eventually(lambda: lines_of(lines, Event.REDIS_DOUBTED), "the doubt")
            assert mirror.is_connected
    assert (
        "another master would not be noticed" in lines_of(lines, Event.REDIS_DOUBTED)[0]["reason"]
    )


async def test_too_few_replicas_are_told_and_waited_for(valkey: Valkey) -> None:
    rows = Rows(publication())
    async with settled(valkey, rows) as (mirror, lines):
        ask(valkey, "CONFIG", "SET", "min-replicas-to-write", 1)
        rows.put(publication(version=2))
        mirror.publish("acme")
        await eventually(lambda: lines_of(lines, Event.REDIS_LOST), "the loss is told")
        ask(valkey, "CONFIG", "SET", "min-replicas-to-write", 0)
        with valkey.client() as client:
            await eventually(
                lambda: client.hget("refresher:token:acme", "version") == "2", "the newer token"
            )
    (lost,) = lines_of(lines, Event.REDIS_LOST)
    assert "too few replicas in reach" in lost["reason"]


async def test_a_look_at_sentinels_says_what_they_say(
    sentinel: PrivateValkey, valkey: Valkey
) -> None:
    url = watch(sentinel, valkey)
    findings = await found(url.replace("/my", f",127.0.0.1:{free_port()}/my"))
    assert findings[0].subject == f"Redis master {NAME}"
    assert findings[0].text == (
        f"is 127.0.0.1:{valkey.port}, with 0 replicas; 1 of 2 sentinels answer, quorum 1"
    )
    assert findings[-1].subject == f"Redis at 127.0.0.1:{valkey.port}"
    told = bad(findings)
    assert "connection refused" in told[0]
    assert told[1:] == [
        "has no replica, so nothing takes its place",
        "is watched by 1 sentinel only",
    ]


async def test_a_look_at_a_cluster_says_what_it_has(node: Valkey) -> None:
    """With the rights of deploy/redis-acl.conf, and those that it adds for a cluster."""
    text = (ROOT / "deploy/redis-acl.conf").read_text()
    (rules,) = [line.split()[2:] for line in text.splitlines() if line.startswith("user refresher")]
    ask(node, "ACL", "SETUSER", "refresher", *rules, "+cluster|slots", "+cluster|info")
    password = Secret(next(rule for rule in rules if rule.startswith(">"))[1:])
    url, who = f"redis+cluster://127.0.0.1:{node.port}", ("refresher", password)
    ask(node, "CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 2)
    findings = await found(url, username=who[0], password=who[1])
    assert "16383 of 16384 slots have a node; cluster_state is fail" in bad(findings)[0]
    ask(node, "CLUSTER", "ADDSLOTS", SLOTS - 1)
    async with connected(url) as server:
        await eventually(lambda: _is_whole(server), "a whole cluster")
    findings = await found(url, username=who[0], password=who[1])
    assert findings[0].text == "has 1 master and 0 replicas; 16384 of 16384 slots have a node"
    (told,) = bad(findings)
    assert "has no replica" in told


async def _is_whole(server: Masters) -> bool:
    await server.find()
    return "fail" not in (await server.survey())[0].text


async def test_a_rotated_password_is_read_again_for_each_server(
    sentinel: PrivateValkey, valkey: Valkey
) -> None:
    url = watch(sentinel, valkey)
    old, new = (Address(url=url, password=Secret(word)) for word in ("old", "new"))
    ask(valkey, "CONFIG", "SET", "requirepass", "old")

    async def reread() -> Address:
        return new

    server = open_server(old, reread=reread)
    try:
        await server.find()
        with Redis.from_url(valkey.url, password="old") as client:
            client.config_set("requirepass", "new")
        await server.disconnect()
        assert await server.execute("HGETALL", KEYS.token("acme")) == {}
    finally:
        await server.aclose()


@pytest.mark.parametrize("kind", ["one", "sentinels"])
async def test_another_form_of_the_url_takes_a_restart(
    sentinel: PrivateValkey, valkey: Valkey, kind: str
) -> None:
    watched = watch(sentinel, valkey)
    urls = (valkey.url, watched) if kind == "one" else (watched, valkey.url)
    with logged() as lines:
        async with connected(urls[0]) as server:
            await server.find()
            await server.move(Address(url=urls[1]))
            assert await server.execute("HGETALL", KEYS.token("acme")) == {}
    (doubted,) = lines_of(lines, Event.REDIS_DOUBTED)
    assert "takes a restart" in doubted["reason"]


async def test_other_sentinels_count_at_once(
    sentinel: PrivateValkey, valkey: Valkey, shared_valkey: Valkey
) -> None:
    """As after SIGHUP with another URL of the same form."""
    url = watch(sentinel, valkey)
    other = PrivateValkey("--sentinel", file=True)
    other.start()
    try:
        async with connected(url) as server:
            await server.find()
            await server.move(Address(url=watch(other, shared_valkey)))
            await server.find()
            assert [one.where for one in server.masters] == [f"127.0.0.1:{shared_valkey.port}"]
    finally:
        other.stop()


async def test_another_cluster_counts_at_once(node: Valkey) -> None:
    """Nobody asks the nodes of the first about the slots of the second."""
    ask(node, "CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
    ask(node, "CLUSTER", "SET-CONFIG-EPOCH", 7)
    with started_node() as other:
        ask(other, "CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        urls = [f"redis+cluster://127.0.0.1:{one.port}" for one in (node, other)]
        async with mirroring(urls[0], Rows(publication())) as mirror:
            await eventually(lambda: mirror.is_connected, "a connection")
            await eventually(
                lambda: "cluster_state:ok" in str(ask(other, "CLUSTER", "INFO")), "its slots"
            )
            await mirror._publisher.server.move(Address(url=urls[1]))
            with other.client() as client:
                await eventually(
                    lambda: client.hget(KEYS.token("acme"), "version") == "1",
                    "the token at the other cluster",
                )
