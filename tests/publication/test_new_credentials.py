"""A password, a certificate or a whole address that is replaced while the daemon publishes."""

import asyncio
import os
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis import Redis

from refresher.domain.secret import Secret
from refresher.errors import PublicationUnavailable
from refresher.logs import Event
from refresher.publication.inbox import Inbox
from refresher.publication.mirror.life import Mirror
from refresher.publication.publisher import Publisher
from refresher.publication.server import tls as tls_module
from refresher.publication.server.connection import Address, Server
from tests.oauth.world import RawServer, make_certificate, server_context, serving
from tests.publication.world import (
    CLOCK,
    KEYS,
    Rows,
    lines_of,
    logged,
    publication,
)
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

OLD, NEW = Secret("canary-old-password"), Secret("canary-new-password")


class Store:
    """Where the address is kept."""

    def __init__(self, *addresses: Address) -> None:
        self._addresses = list(addresses)
        self.looks = 0

    async def reread(self) -> Address:
        self.looks += 1
        return self._addresses.pop(0) if self._addresses[1:] else self._addresses[0]


def entered(valkey: Valkey, password: Secret) -> Redis:
    """A client that gets in with PASSWORD."""
    return Redis.from_url(valkey.url, password=password.reveal(), decode_responses=True)


def set_password(valkey: Valkey, password: Secret, *, user: str | None = None) -> None:
    """Make PASSWORD the only one, and close every connection."""
    with entered(valkey, OLD) as client:
        if user:
            client.execute_command("ACL", "SETUSER", user, "resetpass", f">{password.reveal()}")
        else:
            client.config_set("requirepass", password.reveal())
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


@asynccontextmanager
async def _mirror(server: Server, rows: Rows) -> AsyncIterator[tuple[Mirror, list[Any]]]:
    """A mirror that runs on SERVER, and the lines it logs."""
    publisher = Publisher(server=server, keys=KEYS, clock=CLOCK)
    inbox = Inbox(server=server, keys=KEYS, clock=CLOCK)
    mirror = Mirror(publisher=publisher, source=rows, clock=CLOCK, instance="one", inbox=inbox)
    with logged() as lines:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(mirror.run)
                yield mirror, lines
                group.cancel_scope.cancel()
        finally:
            await server.aclose()


@pytest.mark.parametrize("user", [None, "daemon"], ids=["default user", "named user"])
async def test_a_rotated_password_fails_no_connection(valkey: Valkey, user: str | None) -> None:
    valkey.restart(["--requirepass", OLD.reveal()])
    if user:
        with entered(valkey, OLD) as client:
            client.execute_command(
                "ACL", "SETUSER", user, "on", f">{OLD.reveal()}", "~*", "&*", "+@all"
            )
    old = Address(url=valkey.url, username=user, password=OLD)
    store = Store(Address(url=valkey.url, username=user, password=NEW))
    server = Server(old, reread=store.reread)
    try:
        await server.execute("PING")
        assert store.looks == 0
        set_password(valkey, NEW, user=user)
        await server.disconnect()
        assert await server.pipeline([("ACL", "WHOAMI")]) == [(user or "default").encode()]
        assert store.looks == 1
    finally:
        await server.aclose()


async def test_a_password_that_did_not_change_is_refused_as_before(valkey: Valkey) -> None:
    valkey.restart(["--requirepass", NEW.reveal()])
    store = Store(Address(url=valkey.url, password=OLD))
    server = Server(Address(url=valkey.url, password=OLD), reread=store.reread)
    try:
        for asked in (1, 2):
            with pytest.raises(PublicationUnavailable, match="does not accept"):
                await server.execute("PING")
            assert store.looks == asked
    finally:
        await server.aclose()


async def test_a_password_is_found_where_there_was_none(valkey: Valkey) -> None:
    valkey.restart(["--requirepass", NEW.reveal()])
    store = Store(Address(url=valkey.url.replace("//", f"//:{NEW.reveal()}@")))
    server = Server(Address(url=valkey.url), reread=store.reread)
    try:
        connection = await server.open_connection()
        await server.release(connection)
        assert await server.execute("PING") is True
        assert store.looks == 1
    finally:
        await server.aclose()


async def test_looking_may_take_longer_than_a_command(valkey: Valkey) -> None:
    valkey.restart(["--requirepass", NEW.reveal()])

    async def reread() -> Address:
        await anyio.sleep(3)  # a password manager; commands have 2.5 s
        return Address(url=valkey.url, password=NEW)

    server = Server(Address(url=valkey.url, password=OLD), reread=reread)
    try:
        assert await server.execute("PING") is True
    finally:
        await server.aclose()


async def test_the_mirror_goes_on_with_a_rotated_password(valkey: Valkey) -> None:
    valkey.restart(["--requirepass", OLD.reveal()])
    rows = Rows(publication())
    store = Store(Address(url=valkey.url, password=NEW))
    server = Server(Address(url=valkey.url, password=OLD), reread=store.reread)
    async with _mirror(server, rows) as (mirror, lines):
        await eventually(lambda: mirror.is_connected, "it is connected")
        set_password(valkey, NEW)
        await eventually(lambda: len(lines_of(lines, Event.REDIS_CONNECTED)) == 2, "it is back")
        rows.put(publication(version=2))
        mirror.publish("acme")

        def is_published() -> bool:
            with entered(valkey, NEW) as client:
                return bool(client.hget(KEYS.token("acme"), "version") == "2")

        await eventually(is_published, "the new version")
    reasons = [line["reason"] for line in lines_of(lines, Event.REDIS_LOST)]
    assert not [reason for reason in reasons if "accept" in reason]
    assert not [line for line in lines if "canary" in str(line)]


async def test_everything_is_published_where_the_address_moves_to(valkey: Valkey) -> None:
    other = Valkey()
    other.start()
    rows = Rows(publication("a"), publication("b", number=2))
    server = Server(Address(url=valkey.url))
    try:
        async with _mirror(server, rows) as (mirror, lines):
            await eventually(lambda: lines_of(lines, Event.MIRROR_REBUILT), "nothing is to do")
            await server.move(Address(url=other.url))
            with other.client() as there:
                await eventually(
                    lambda: there.exists(KEYS.token("a"), KEYS.token("b")) == 2, "both are there"
                )
                await eventually(lambda: mirror.is_connected, "it is connected again")
                there.delete(KEYS.token("a"))  # it listens there, too
                await eventually(lambda: there.exists(KEYS.token("a")), "it is mended")
            with valkey.client() as client:
                names = [one["name"] for one in client.client_list()]
            assert "refresher" not in names
    finally:
        other.stop()


async def test_a_lent_connection_ends_only_when_the_address_moves(shared_valkey: Valkey) -> None:
    server = Server(Address(url=shared_valkey.url))
    try:
        connection = await server.open_connection()
        await server.move(Address(url=shared_valkey.url, password=NEW))
        assert connection.is_connected
        await server.move(Address(url="redis://127.0.0.1:1"))
        assert not connection.is_connected
    finally:
        await server.aclose()


async def test_an_address_that_cannot_be_used_changes_nothing(shared_valkey: Valkey) -> None:
    server = Server(Address(url=shared_valkey.url))
    try:
        with pytest.raises(ValueError, match="is not one of"):
            await server.move(Address(url="http://other"))
        assert await server.execute("PING") is True
    finally:
        await server.aclose()


@dataclass(frozen=True)
class TLS:
    """A Redis behind TLS, and the file of the certificates that its URL trusts."""

    url: str
    trusted: Path
    context: ssl.SSLContext

    def trust(self, certificate: Path) -> None:
        """Swap the trusted file, as a secret store does."""
        new = self.trusted.with_name("new")
        new.symlink_to(certificate)
        new.replace(self.trusted)


@pytest.fixture
async def tls(shared_valkey: Valkey, tmp_path: Path) -> AsyncIterator[TLS]:
    async def forward(
        _: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", shared_valkey.port)
        async with anyio.create_task_group() as group:

            async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                with suppress(OSError):  # either side went away
                    while piece := await source.read(4096):
                        sink.write(piece)
                        await sink.drain()
                group.cancel_scope.cancel()

            group.start_soon(pump, reader, to_redis)
            group.start_soon(pump, from_redis, writer)
        to_redis.close()

    certificate = make_certificate(tmp_path)
    context = server_context(certificate)
    async with serving(forward, tls=context) as raw:
        url = f"rediss://127.0.0.1:{raw.port}/0?ssl_ca_certs={tmp_path / 'trusted'}"
        tls = TLS(url, tmp_path / "trusted", context)
        tls.trust(certificate)
        yield tls


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[Server, list[Any]]]:
    """A server that has answered, and the lines it logs."""
    server = Server(Address(url=url))
    with logged() as lines:
        try:
            assert await server.execute("PING") is True
            yield server, lines
        finally:
            await server.aclose()


async def test_a_replaced_certificate_counts_at_the_next_connection(
    tls: TLS, tmp_path: Path
) -> None:
    async with connected(tls.url) as (server, lines):
        certificate = make_certificate(tmp_path, days=2)
        tls.context.load_cert_chain(certificate)
        await server.disconnect()
        with pytest.raises(PublicationUnavailable, match="not trusted"):
            await server.execute("PING")
        tls.trust(certificate)
        for _ in range(2):
            await server.disconnect()
            assert await server.execute("PING") is True
    assert [line["setting"] for line in lines_of(lines, Event.SECRET_REPLACED)] == ["redis.url"]


@pytest.mark.parametrize("broken", ["empty", "missing", "half", "fifo", "folder"])
async def test_certificates_that_cannot_be_read_keep_the_last_ones(tls: TLS, broken: str) -> None:
    good = tls.trusted.readlink()
    async with connected(tls.url) as (server, lines):
        tls.trusted.unlink()
        match broken:
            case "fifo":
                os.mkfifo(tls.trusted)
            case "folder":
                tls.trusted.mkdir()
            case "empty":
                tls.trusted.touch()
            case "half":
                content = good.read_bytes()
                tls.trusted.write_bytes(content[: len(content) // 2])
            case _:
                assert not tls.trusted.exists()
        for _ in range(2):
            await server.disconnect()
            assert await server.execute("PING") is True
        [doubted] = lines_of(lines, Event.SECRET_DOUBTED)
        assert doubted["setting"] == "redis.url"
        if broken != "folder":
            tls.trust(good)
            await server.disconnect()
            assert await server.execute("PING") is True
        assert len(lines_of(lines, Event.SECRET_DOUBTED)) == 1


async def test_a_file_system_that_hangs_holds_up_no_loop(
    tls: TLS, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang, waiting = threading.Event(), 0
    stamp = tls_module._stamp

    def hanging(file: Path) -> tuple[int, ...]:
        nonlocal waiting
        waiting += 1
        hang.wait(60)
        return stamp(file)

    async with connected(tls.url) as (server, lines):
        monkeypatch.setattr(tls_module, "LOOK_WITHIN", 0.1)
        monkeypatch.setattr(tls_module, "_stamp", hanging)
        try:
            for _ in range(3):
                await server.disconnect()
                assert await server.execute("PING") is True, "with what was known before"
            assert waiting == 1, "no thread joins the one that hangs"
            (doubted,) = lines_of(lines, Event.SECRET_DOUBTED)
            assert doubted["reason"] == "TLS files: they did not answer in time"
        finally:
            hang.set()
        await server.disconnect()
        assert await server.execute("PING") is True


async def test_certificates_that_were_never_good_are_named(tls: TLS) -> None:
    tls.trusted.unlink()
    server = Server(Address(url=tls.url))
    try:
        with pytest.raises(PublicationUnavailable, match="ssl_"):
            await server.execute("PING")
    finally:
        await server.aclose()
