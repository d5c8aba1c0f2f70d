"""Somebody writes the vault's file, and has no key: real processes, and what comes of it."""

import http.server
import sqlite3
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from refresher.sandbox import SandboxOptions
from tests.canary import Canary
from tests.support.waiting import wait_until
from tests.system.world import World, new_world

NAMES = ("c", "d", "e")

OTHER = """
[clients.other]
token_endpoint = "http://127.0.0.1:{port}/token"
client_id = "other"
client_secret = {{ file = "other.secret" }}
"""


@contextmanager
def other_server() -> Iterator[tuple[int, list[str]]]:
    """The token endpoint of another client: its port, and the refresh tokens that it is sent."""
    received: list[str] = []

    class Endpoint(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            received.extend(urllib.parse.parse_qs(body).get("refresh_token", []))
            self.send_error(503)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port, received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def alter(folder: Path, *statements: str) -> None:
    """Change the vault, as whoever can write its file may."""
    with closing(sqlite3.connect(folder / "refresher.db", isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)


def known(world: World) -> dict[str, dict[str, Any]]:
    """What the daemon says of each grant that it has set aside or paused."""
    told = world.daemon.events("grant.set_aside", "grant.paused")
    return {line["grant"]: line for line in told}


def test_no_token_goes_astray(tmp_path: Path, canary: Canary) -> None:
    """Neither to another client's server nor under another name, and each is told."""
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"), access_token_lifetime=3600
    )
    with new_world(tmp_path, canary, options) as world, other_server() as (port, received):
        world.secret_file("other.secret", canary.plant("other-secret"))
        clients = world.client("box") + OTHER.format(port=port)
        world.daemon.prepare(redis_url=world.valkey.url, clients=clients)
        world.daemon.start()
        tokens = world.server.refresh_tokens(len(NAMES))
        for name, refresh_token in zip(NAMES, tokens, strict=True):
            world.import_grants({"name": name, "client": "box", "refresh_token": refresh_token})
        wait_until(lambda: all(map(world.token, NAMES)), description="all have tokens")
        own = {name: world.token(name)["access_token"] for name in NAMES}
        assert world.daemon.stop() == 0
        alter(
            tmp_path,
            "UPDATE grants SET client = 'other', due_at = 0 WHERE name = 'c'",
            "UPDATE grants SET name = 'tmp' WHERE name = 'd'",
            "UPDATE grants SET name = 'd' WHERE name = 'e'",
            "UPDATE grants SET name = 'e' WHERE name = 'tmp'",
        )
        world.daemon.start()
        wait_until(lambda: known(world).keys() >= set(NAMES), description="all are told")
        rebuilt = len(world.daemon.events("mirror.rebuilt"))
        with world.valkey.client() as redis:
            redis.flushall()
        wait_until(
            lambda: len(world.daemon.events("mirror.rebuilt")) > rebuilt,
            description="Redis is rebuilt",
        )
        for name in ("d", "e"):
            others = {token for of, token in own.items() if of != name}
            assert world.token(name).get("access_token") not in others
        shown = world.daemon.command("status", "--json", check=3).stdout
        assert shown.count('"unreadable"') == len(NAMES)
        assert received == []
