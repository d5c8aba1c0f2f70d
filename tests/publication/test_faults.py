"""Every way Redis can refuse is named, and no secret is in the name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from refresher.domain.secret import Secret
from refresher.errors import PublicationUnavailable
from refresher.publication.server.connection import SCHEMES, Address, open_server
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


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        (["~*", "&*", "+@all", "-evalsha"], "forbids evalsha: add +evalsha"),
        (["~*", "&*", "+@all", "-script|load"], "forbids script|load: add +script|load"),
        (["~*", "&*", "+@all", "-xadd"], "forbids xadd: add +xadd"),
        (["~other:*", "&*", "+@all"], "forbids its keys"),
        (["~*", "resetchannels", "+@all"], "forbids its channels: add &PREFIX*; the publish"),
        (["~*", "&*", "+@all", "-hset"], "forbids hset: add +hset; the publish script"),
    ],
    ids=["command", "subcommand", "in a batch", "keys", "channel in script", "command in script"],
)
async def test_a_missing_permission_is_named(
    valkey: Valkey, rules: Sequence[str], named: str
) -> None:
    assert named in await reason(valkey.url, **with_user(valkey, *rules))


async def test_a_replica_is_named(valkey: Valkey) -> None:
    valkey.restart(["--replicaof", "127.0.0.1 1"])
    assert "a replica and takes no writes" in await reason(valkey.url)


async def test_a_full_server_is_named(valkey: Valkey) -> None:
    valkey.restart(["--maxmemory", "1kb"])
    assert "out of memory" in await reason(valkey.url)


async def test_a_frozen_server_is_named(valkey: Valkey) -> None:
    valkey.pause()
    assert "no answer in time" in await reason(valkey.url)


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
