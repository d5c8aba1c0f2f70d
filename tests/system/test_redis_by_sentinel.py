"""A daemon and its commands find Redis by sentinels, whose password nobody sees."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from refresher.demo.private_server import PrivateValkey
from refresher.sandbox import SandboxOptions
from tests.canary import Canary
from tests.support.many_servers import NAME, ask
from tests.support.valkey import Valkey, valkey
from tests.support.waiting import wait_until
from tests.system.world import new_world

__all__ = ["valkey"]


@pytest.fixture
def sentinel() -> Iterator[PrivateValkey]:
    server = PrivateValkey("--sentinel", file=True)
    server.start()
    yield server
    server.stop()


def test_a_daemon_follows_its_sentinel(
    tmp_path: Path, canary: Canary, sentinel: PrivateValkey, valkey: Valkey
) -> None:
    """From one master to another, with what it publishes; each of its commands, too."""
    with new_world(tmp_path, canary, SandboxOptions(access_token_lifetime=3600)) as world:
        ask(sentinel, "SENTINEL", "MONITOR", NAME, "127.0.0.1", world.valkey.port, 1)
        password = canary.plant("sentinel-password")
        rules = ("on", f">{password}", "-@all", "+@connection")
        commands = ("+sentinel|get-master-addr-by-name", "+sentinel|master")
        ask(sentinel, "ACL", "SETUSER", "daemon", *rules, *commands)
        who = f"sentinel_username=daemon&sentinel_password={password}"
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/{NAME}?{who}"
        world.daemon.prepare(redis_url=url, clients=world.client("box"))
        world.daemon.start()
        (refresh_token,) = world.server.refresh_tokens(1)
        world.import_grants({"name": "acme", "client": "box", "refresh_token": refresh_token})
        wait_until(lambda: world.token("acme"), description="the token is published")
        first = world.daemon.command("token", "acme", logged=False).stdout
        assert first == world.token("acme")["access_token"] + "\n"
        told = world.daemon.command("check", "--online").stdout
        assert f"good: Redis master {NAME}: is 127.0.0.1:{world.valkey.port}" in told

        ask(sentinel, "SENTINEL", "REMOVE", NAME)
        ask(sentinel, "SENTINEL", "MONITOR", NAME, "127.0.0.1", valkey.port, 1)
        with valkey.client() as client:
            wait_until(
                lambda: client.hgetall("refresher:token:acme") == world.token("acme"),
                description="the token at the other master",
            )
        assert world.daemon.command("token", "acme", logged=False).stdout == first
        (moved,) = world.daemon.events("redis.moved")
        assert f"another master: 127.0.0.1:{valkey.port}" in moved["reason"]
