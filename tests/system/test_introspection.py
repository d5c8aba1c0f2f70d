"""A token whose answer tells no end, in a real daemon: its server is asked, and Redis told."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from refresher.sandbox import SandboxOptions
from tests.canary import Canary
from tests.support.waiting import wait_until
from tests.system.world import new_world

LIFE = 1800


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """An introspection endpoint, and the tokens that it was asked about."""
    tokens: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
            tokens.append(parse_qs(sent)["token"][0])
            body = json.dumps({"active": True, "exp": int(time.time()) + LIFE}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/introspect", tokens
        server.shutdown()


def test_redis_lets_the_token_end_when_its_server_does(
    tmp_path: Path, canary: Canary, asked: tuple[str, list[str]]
) -> None:
    url, tokens = asked
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"), expires_in_in_answer=False
    )
    with new_world(tmp_path, canary, options) as world:
        client = world.client("box", more=f'introspection_endpoint = "{url}"')
        world.daemon.prepare(redis_url=world.valkey.url, clients=client)
        world.daemon.start()
        minted = world.server.call(world.server.sandbox.mint)
        began = time.time()
        world.import_grants(
            {"name": "endless", "client": "box", "refresh_token": minted.refresh_token}
        )

        def ends_in() -> float:
            return int(world.token("endless").get("expires_at", 0)) - began

        # Assumed, it would be an hour.
        wait_until(lambda: 0 < ends_in() < LIFE + 60, description="its server's end is published")
        with world.valkey.client() as redis:
            assert 0 < redis.ttl("refresher:token:endless") <= LIFE
        assert tokens == [world.token("endless")["access_token"]]
