"""Every way Redis can refuse is named, and no secret is in the name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream
from redis import Redis

from refresher.demo.private_server import free_port
from refresher.domain.secret import Secret
from refresher.errors import PublicationUnavailable
from refresher.publication.server.connection import SCHEMES, Address
from refresher.publication.server.opening import open_server
from tests.publication.world import CANARY, CLOCK, publication, publishing
from tests.support.valkey import Valkey

PASSWORD = "canary-password"


async def reason(url: str, **parts: Any) -> str:
    """Why a publication to URL fails; whatever it is, it holds no secret."""
    async with publishing(url, **parts) as publisher:

        async def connect_and_publish() -> None:
            await publisher.connect()
            await publisher.publish([publication()], now=CLOCK.now())

        with pytest.raises(PublicationUnavailable) as caught:
            await connect_and_publish()
    shown = f"{caught.value} {caught.value!r} {caught.value.__cause__}"
    assert CANARY not in shown
    assert PASSWORD not in shown
    return str(caught.value)


def with_user(valkey: Valkey, *rules: str) -> dict[str, object]:
    """Make a user with RULES; what to connect with."""
    with valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "daemon", "reset", "on", f">{PASSWORD}", *rules)
    return {"username": "daemon", "password": Secret(PASSWORD)}


async def test_a_refused_connection_is_named(valkey: Valkey) -> None:
    valkey.stop()
    assert await reason(valkey.url) == (f"Redis at 127.0.0.1:{valkey.port}: connection refused")


async def test_a_missing_socket_is_named(tmp_path: Path) -> None:
    assert "its socket does not exist" in await reason(f"unix://{tmp_path}/redis.sock")


async def test_an_unknown_host_is_named() -> None:
    assert "host name" in await reason("redis://redis.invalid")


async def test_a_server_that_wants_a_password_is_named(valkey: Valkey) -> None:
    valkey.restart(["--requirepass", PASSWORD])
    assert "asks for a password and none is configured" in await reason(valkey.url)


@pytest.mark.parametrize("username", [None, "somebody"], ids=["default user", "named user"])
async def test_a_wrong_password_is_named(valkey: Valkey, username: str | None) -> None:
    valkey.restart(["--requirepass", PASSWORD])
    wrong = {"username": username, "password": Secret(f"{PASSWORD}-not")}
    assert "does not accept the user name and password" in await reason(valkey.url, **wrong)


async def test_a_wrong_password_in_the_url_stays_hidden(valkey: Valkey) -> None:
    valkey.restart(["--requirepass", "other"])
    url = valkey.url.replace("redis://", f"redis://:{PASSWORD}@")
    assert "does not accept" in await reason(url)
    assert PASSWORD not in repr(Address(url=url))


@pytest.mark.parametrize("right", ["script|load", "time"])
async def test_a_right_without_which_nothing_begins_is_named(valkey: Valkey, right: str) -> None:
    rules = with_user(valkey, "~*", "&*", "+@all", f"-{right}")
    assert f"forbids {right}: add +{right}" in await reason(valkey.url, **rules)


async def test_a_replica_is_named(valkey: Valkey) -> None:
    valkey.restart(["--replicaof", "127.0.0.1 1"])
    assert "a replica and takes no writes" in await reason(valkey.url)


async def test_a_full_server_is_named(valkey: Valkey) -> None:
    valkey.restart(["--maxmemory", "1kb"])
    assert "out of memory" in await reason(valkey.url)


async def test_a_frozen_server_is_named(valkey: Valkey) -> None:
    valkey.pause()
    assert "no answer in time" in await reason(valkey.url)


WORDS = {
    "MOVED 3999 127.0.0.1:6381": "one node of a cluster",
    "ASK 3999 127.0.0.1:6381": "one node of a cluster",
    "TRYAGAIN Multiple keys request during rehashing of slot": "one node of a cluster",
    "CROSSSLOT Keys in request don't hash to the same slot": "one node of a cluster",
    "CLUSTERDOWN Hash slot not served": "the cluster is down",
    "ERR SELECT is not allowed in cluster mode": "one node of a cluster",
    "LOADING Redis is loading the dataset in memory": "still loading its data",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": (
        "this replica has lost its master"
    ),
    "READONLY You can't write against a read only replica.": "a replica and takes no writes",
    "OOM command not allowed when used memory > 'maxmemory'.": "out of memory",
    "MISCONF Redis is configured to save RDB snapshots": "cannot save its data to disk",
    "NOREPLICAS Not enough good replicas to write.": "too few replicas",
    "BUSY Redis is busy running a script.": "busy with a script",
    "DENIED Redis is running in protected mode because": "protected mode",
    "NOAUTH Authentication required.": "asks for a password and none is configured",
    "NOAUTH HELLO must be called with the client already authenticated": "asks for a password",
    "ERR operation not permitted": "asks for a password",
    "WRONGPASS invalid username-password pair or user is disabled.": "does not accept the user",
    "ERR invalid password": "does not accept the user",
    "ERR AUTH <password> called without any password configured for the default user. Are you "
    "sure your configuration is correct?": "a password is configured and Redis has none",
    "ERR Client sent AUTH, but no password is set": "a password is configured and Redis has none",
    "NOPROTO unsupported protocol version": "older than Redis 6",
    f"ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `{PASSWORD}`": (
        "older than Redis 6"
    ),
    f"ERR unknown command 'hello', with args beginning with: '3' 'AUTH' '{PASSWORD}'": (
        "older than Redis 6"
    ),
    f"ERR unknown command 'SCRIPT', with args beginning with: 'LOAD' '{PASSWORD}'": (
        "does not know the command SCRIPT: it is disabled, or what answers is a Sentinel"
    ),
    "ERR max number of clients reached": "too many clients",
    "ERR DB index is out of range": "no database of the number that its URL names",
    f"ODDWORD {PASSWORD}": "refused with ODDWORD",
    f"ERR something about {PASSWORD}": "refused a command that it should know",
}
"""What servers say, and what we make of it; the password stands for what they may quote."""


@asynccontextmanager
async def refusing(*answers: bytes) -> AsyncIterator[str]:
    """A server that gives ANSWERS, the last of them to whatever comes; its URL."""

    async def answer(stream: SocketStream) -> None:
        left = list(answers)
        async with stream:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                while await stream.receive():
                    await stream.send(left.pop(0) if len(left) > 1 else left[0])

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610  not Django's
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        yield f"redis://127.0.0.1:{port}/0"
        group.cancel_scope.cancel()


@pytest.mark.parametrize(("word", "named"), WORDS.items(), ids=[word[:30] for word in WORDS])
async def test_what_a_server_says_is_told_in_our_words(word: str, named: str) -> None:
    async with refusing(f"-{word}\r\n".encode()) as url:
        assert named in await reason(url, password=Secret(PASSWORD))


async def test_a_server_that_is_no_redis_is_named() -> None:
    async with refusing(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        assert "what answers there is no Redis" in await reason(url)


async def test_a_node_of_a_cluster_is_named(valkey: Valkey) -> None:
    valkey.restart(["--cluster-enabled", "yes", "--cluster-port", str(free_port())])
    with Redis.from_url(valkey.url, protocol=2) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 100)
    assert "the cluster is down" in await reason(valkey.url)


@pytest.mark.parametrize("url", [f"http://:{PASSWORD}@host", f":{PASSWORD}@host"])
def test_an_unknown_scheme_lists_those_that_work(url: str) -> None:
    with pytest.raises(ValueError, match="is not one of") as caught:
        open_server(Address(url=url))
    assert all(f"{scheme}://" in str(caught.value) for scheme in SCHEMES)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        (f"redis://:{PASSWORD}/x@host", "percent-encode"),
        ("redis://host?protocol=2", "option protocol"),
        ("redis://:inside@host", "given twice"),
    ],
    ids=["slash in password", "option of ours", "two passwords"],
)
def test_a_url_that_cannot_be_used_is_named(url: str, named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        open_server(Address(url=url, password=Secret("beside")))
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_a_user_in_the_url_takes_a_password_beside_it(valkey: Valkey) -> None:
    with_user(valkey, "~*", "&*", "+@all")
    url = valkey.url.replace("redis://", "redis://daemon@")
    async with publishing(url, password=Secret(PASSWORD)) as publisher:
        await publisher.publish([publication()], now=CLOCK.now())
        assert await publisher.server.execute("ACL", "WHOAMI") == b"daemon"


async def test_a_socket_works_like_a_port(valkey: Valkey, tmp_path: Path) -> None:
    valkey.restart(["--unixsocket", str(tmp_path / "redis.sock")])
    async with publishing(f"unix://{tmp_path}/redis.sock") as publisher:
        await publisher.publish([publication()], now=CLOCK.now())
    with valkey.client() as client:
        assert client.dbsize() == 3
