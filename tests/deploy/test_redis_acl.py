"""The ACL file on a real Valkey: the daemon can do its work, consumers theirs and no more."""

import socket
from collections.abc import AsyncIterator, Iterator, Mapping

import anyio
import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from refresher.clock import SystemClock
from refresher.demo.private_server import PrivateValkey
from refresher.domain.requests import Rejected
from refresher.domain.secret import Secret
from refresher.publication.inbox import Inbox
from refresher.publication.keys import Keys
from refresher.publication.mirror.heartbeat import Heartbeat
from refresher.publication.mirror.observation import observe
from refresher.publication.publisher import Publisher
from refresher.publication.reports import Outcome
from refresher.publication.server import tracking
from refresher.publication.server.connection import Address, Server
from refresher.publication.server.rights import Rights
from tests.deploy.files import CHECKOUT, users_of
from tests.publication.world import publication
from tests.support.waiting import PATIENCE

PATH = CHECKOUT / "deploy" / "redis-acl.conf"
PASSWORDS: Mapping[str, str] = {
    "refresher": "CHANGE-ME-REFRESHER",
    "consumer": "CHANGE-ME-CONSUMER",
    "billing": "CHANGE-ME-BILLING",
    "health": "anything",
}
KEYS = Keys()
NAME = "acme"


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateValkey]:
    """The users of the file; the consumer of named grants, a comment there, is one of them."""
    text = PATH.read_text()
    assert "\n#user billing " in text
    users = tmp_path_factory.mktemp("acl") / "redis-acl.conf"
    users.write_text(text.replace("\n#user ", "\nuser "))
    server = PrivateValkey("--include", str(users))
    server.start()
    with connected(server, "refresher") as daemon:
        daemon.hset(KEYS.token(NAME), "access_token", "t1")
        daemon.hset(KEYS.token("other"), "access_token", "t2")
        daemon.hset(KEYS.status(NAME), "state", "fresh")
        daemon.xadd(KEYS.events, {"grant": NAME})
    yield server
    server.stop()


def connected(server: PrivateValkey, user: str) -> Redis:
    # RESP2 answers a SUBSCRIBE as a reply, RESP3 as a push
    return Redis(
        port=server.port,
        username=user,
        password=PASSWORDS[user],
        protocol=2,
        decode_responses=True,
    )


def run(server: PrivateValkey, user: str, command: str) -> object:
    with connected(server, user) as client:
        return client.execute_command(*command.split())


@pytest.fixture
async def daemon(valkey: PrivateValkey) -> AsyncIterator[Server]:
    password = Secret(PASSWORDS["refresher"])
    server = Server(Address(url=valkey.url, username="refresher", password=password))
    yield server
    await server.aclose()


async def test_the_daemon_can_publish_and_remove(daemon: Server) -> None:
    clock = SystemClock()
    publisher = Publisher(server=daemon, keys=KEYS, clock=clock)
    await publisher.connect()
    report = await publisher.publish([publication("other")], now=clock.now())
    assert report.tokens == {"other": Outcome.WRITTEN}
    assert (await observe(publisher, ["other"]))["other"].version == 1
    await publisher.remove(["other"])
    assert (await observe(publisher, ["other"]))["other"].is_absent


async def test_the_daemon_can_show_that_it_lives(daemon: Server) -> None:
    rights = Rights(lambda: daemon.where, SystemClock().monotonic)
    heartbeat = Heartbeat(server=daemon, keys=KEYS, rights=rights, instance="one", started_at=0.0)
    await heartbeat.beat()
    await heartbeat.end()
    assert rights.doubt is None


async def test_the_daemon_can_watch_its_keys(daemon: Server) -> None:
    changed = anyio.Event()

    async with anyio.create_task_group() as tasks:
        is_on = await tasks.start(
            tracking.watch, daemon, KEYS, lambda _: changed.set(), lambda _: None
        )
        assert is_on
        await daemon.execute("HSET", KEYS.status("watched"), "state", "fresh")
        with anyio.fail_after(PATIENCE):
            await changed.wait()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("user", "command"),
    [
        (
            "consumer",
            f"XADD {KEYS.requests} MAXLEN ~ 1000 * grant {NAME} version 7 reason 401",
        ),
        ("consumer", f"SET {KEYS.rejected(NAME)} 7 EX 300"),
        ("billing", f"SET {KEYS.rejected(NAME)} 7 EX 300"),
    ],
    ids=["stream", "key", "key of a named grant"],
)
async def test_a_consumers_request_reaches_the_daemon(
    valkey: PrivateValkey, daemon: Server, user: str, command: str
) -> None:
    received: list[Mapping[str, Rejected]] = []

    async def handle(rejected: Mapping[str, Rejected]) -> set[str]:
        received.append(rejected)
        return set()

    assert run(valkey, user, command)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Inbox(server=daemon, keys=KEYS, clock=SystemClock()).run, handle)
        with anyio.fail_after(30):
            while await daemon.execute("EXISTS", KEYS.requests, KEYS.rejected(NAME)):  # noqa: ASYNC110  only Redis knows
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    reason = "401" if command.startswith("XADD") else ""
    assert received == [{NAME: Rejected(frozenset({7}), reason)}]


async def test_everything_the_daemon_sends_is_allowed(daemon: Server) -> None:
    for command in (
        ("SCAN", 0, "MATCH", f"{KEYS.tokens}*", "COUNT", 10),
        ("GETRANGE", KEYS.rejected(NAME), 0, 19),
        ("EXISTS", KEYS.token(NAME)),
        ("INFO", "memory"),
        ("PING",),
    ):
        await daemon.execute(*command)


@pytest.mark.parametrize(
    "command",
    [
        "HGET refresher:token:acme access_token",
        "HGETALL refresher:token:acme",
        "HGETALL refresher:status:acme",
        "PTTL refresher:token:acme",
        "XREAD STREAMS refresher:events 0",
        "SUBSCRIBE refresher:token:acme",
        "CLIENT SETNAME billing",
    ],
)
def test_a_consumer_may_read_and_subscribe(valkey: PrivateValkey, command: str) -> None:
    assert run(valkey, "consumer", command)
    if "events" not in command:
        assert run(valkey, "billing", command)


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("consumer", "HSET refresher:token:acme access_token x"),
        ("consumer", "DEL refresher:token:acme"),
        ("consumer", "EXPIRE refresher:token:acme 1"),
        ("consumer", "PUBLISH refresher:token:acme x"),
        ("consumer", "XADD refresher:events * grant x"),
        ("consumer", "XRANGE refresher:requests - +"),
        ("consumer", "XREAD STREAMS refresher:requests 0"),
        ("consumer", "GET refresher:rejected:acme"),
        ("consumer", "DEL refresher:rejected:acme"),
        ("consumer", "SET refresher:token:acme x"),
        ("consumer", "SET refresher:requests x"),
        ("billing", "HGETALL refresher:token:other"),
        ("billing", "SET refresher:rejected:other 7"),
        ("billing", "SET refresher:rejected:acme 8 GET"),
        ("billing", "SET refresher:token:acme x"),
        ("billing", "APPEND refresher:rejected:acme x"),
        ("billing", "XADD refresher:requests * grant acme version 7"),
        ("billing", "XREAD STREAMS refresher:events 0"),
        ("billing", "SUBSCRIBE refresher:token:other"),
        ("consumer", "HGETALL refresher:daemon:one"),
        ("consumer", "HGETALL other"),
        ("consumer", "SUBSCRIBE other"),
        ("consumer", "PSUBSCRIBE *"),
        ("consumer", "KEYS *"),
        ("consumer", "SCAN 0"),
        ("consumer", "EVAL return 0"),
        ("consumer", "CLIENT TRACKING ON BCAST"),
        ("consumer", "CLIENT LIST"),
        ("consumer", "FLUSHALL"),
        ("refresher", "SET other x"),
        ("refresher", "GET other"),
        ("refresher", "PUBLISH other x"),
        ("refresher", "FLUSHALL"),
        ("refresher", "CONFIG GET *"),
        ("refresher", "ACL LIST"),
        ("refresher", "CLIENT KILL TYPE normal"),
        ("health", "HGETALL refresher:token:acme"),
        ("health", "INFO"),
    ],
)
def test_nobody_may_do_more_than_their_part(valkey: PrivateValkey, user: str, command: str) -> None:
    with pytest.raises(NoPermissionError):
        run(valkey, user, command)


def test_health_may_ping_without_a_password(valkey: PrivateValkey) -> None:
    assert run(valkey, "health", "PING")


def test_nobody_comes_in_without_a_name(valkey: PrivateValkey) -> None:
    with socket.create_connection(("127.0.0.1", valkey.port), timeout=PATIENCE) as anonymous:
        anonymous.sendall(b"PING\r\n")
        assert anonymous.recv(7) == b"-NOAUTH"


def test_every_password_must_be_changed() -> None:
    for name, rules in users_of(PATH).items():
        passwords = [rule for rule in rules if rule.startswith(">")]
        assert all(password.startswith(">CHANGE-ME-") for password in passwords)
        assert bool(passwords) == (name in {"refresher", "consumer"})
