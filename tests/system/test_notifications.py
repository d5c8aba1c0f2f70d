"""Somebody is told, by a real daemon, whatever becomes of its process meanwhile."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from refresher.sandbox import SandboxOptions
from tests.canary import Canary
from tests.support.waiting import wait_until
from tests.system.world import World, new_world

GRANTS = 40
NOTIFY = """
[[notify]]
url = "{url}"
secret = {{ file = "notify.secret" }}
events = ["grant.lost"]
"""


@dataclass
class Receiver:
    """Takes webhooks in a thread of its own."""

    url: str = ""
    status: int = 200
    requests: list[tuple[dict[str, str], str]] = field(default_factory=list)

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.requests]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            made.requests.append((dict(self.headers), body))
            self.send_response(made.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_port}/hook"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


@pytest.fixture
def world(tmp_path: Path, canary: Canary, receiver: Receiver) -> Iterator[World]:
    options = SandboxOptions(client_secret=canary.plant("client-secret"))
    with new_world(tmp_path, canary, options) as world:
        clients = world.client("box") + NOTIFY.format(url=receiver.url)
        world.daemon.prepare(redis_url=world.valkey.url, clients=clients)
        world.secret_file("notify.secret", "whsec_" + 8 * "c2Vj")
        yield world


def waiting(world: World) -> list[int]:
    """How many grants each notification in the vault is about."""
    vault = f"file:{world.daemon.folder / 'refresher.db'}?mode=ro"
    with closing(sqlite3.connect(vault, uri=True)) as connection:
        bodies = connection.execute("SELECT body FROM notifications").fetchall()
    return [json.loads(body)["data"]["count"] for (body,) in bodies]


def test_a_burst_is_told_once_by_the_next_daemon(
    world: World, receiver: Receiver, canary: Canary
) -> None:
    """Forty grants are lost at once, and the daemon is killed before it can tell."""
    world.daemon.start()
    world.import_grants(
        *(
            {"name": f"g{n}", "client": "box", "refresh_token": canary.plant(f"refresh-{n}")}
            for n in range(GRANTS)
        )
    )
    wait_until(lambda: len(world.daemon.events("grant.lost")) == GRANTS, description="lost")
    wait_until(lambda: sum(waiting(world)) == GRANTS, description="all are in the vault")
    world.daemon.kill()
    before = len(receiver.requests)
    world.daemon.start()
    wait_until(lambda: not waiting(world), description="somebody is told")
    assert before == 0
    told = []
    for headers, body in receiver.requests:
        told.append(Webhook("whsec_" + 8 * "c2Vj").verify(body, headers))
        assert canary.found_in(body.encode()) == set()
    assert {(one["type"], one["data"]["client"]) for one in told} == {("grant.lost", "box")}
    assert sum(one["data"]["count"] for one in told) == GRANTS
    # One, but on a machine that let seconds pass between two losses.
    assert len(told) < 5


def test_it_can_be_tried(world: World, receiver: Receiver) -> None:
    said = world.daemon.command("notify")
    assert said.stdout == "notify[0] has taken it\n"
    [told] = receiver.told
    assert (told["type"], told["data"]) == ("test", {"setting": "notify[0]"})
    receiver.status = 403
    refused = world.daemon.command("notify", "--json", check=1)
    assert json.loads(refused.stdout) == [{"setting": "notify[0]", "fault": "http_403"}]
    config = world.daemon.config.read_text().partition("[[notify]]")[0]
    world.daemon.config.write_text(config)
    said = world.daemon.command("notify", check=1)
    assert "there is no [[notify]] in the settings" in said.stderr
