"""A secret store replaces a secret and tells nobody: the daemon finds it by itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.canary import Canary
from tests.support.steady import LIFETIME, Steady, bring_all, steady_world
from tests.support.waiting import wait_until

LONG_ENOUGH = 16.0
"""Seconds a token lives, so that a look every 5 s comes in time."""


class Mount:
    """A folder as Kubernetes mounts it: its files are links through ``..data``."""

    def __init__(self, folder: Path, secret: str) -> None:
        folder.mkdir()
        self._folder = folder
        self._version = 0
        self.swap(secret)
        self.file = folder / "value.secret"
        self.file.symlink_to("..data/value.secret")

    def swap(self, secret: str) -> None:
        """Let every file have its new content at one instant."""
        self._version += 1
        version = self._folder / f"..{self._version}"
        version.mkdir()
        (version / "value.secret").write_text(f"{secret}\r\n")
        link = self._folder / "..data_tmp"
        link.symlink_to(version.name)
        link.replace(self._folder / "..data")


@contextmanager
def steady_with(
    folder: Path, canary: Canary, *changes: tuple[str, str], lifetime: float = LIFETIME
) -> Iterator[Steady]:
    """A daemon that refreshes all the time, with CHANGES in the text of its settings."""
    with steady_world(folder, canary, lifetime=lifetime) as steady:
        config = steady.world.daemon.config
        text = config.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        config.write_text(text)
        yield steady


def replaced(steady: Steady) -> list[str]:
    return [line["setting"] for line in steady.world.daemon.events("secret.replaced")]


def test_the_secret_of_a_client(tmp_path: Path, canary: Canary) -> None:
    new = canary.plant("new-client-secret")
    mount = Mount(tmp_path / "mount", "")
    change = ('file = "box.secret"', f'file = "{mount.file}"')
    with steady_with(tmp_path, canary, change, lifetime=LONG_ENOUGH) as steady:
        server = steady.world.server
        mount.swap(str(server.sandbox.client.client_secret))
        steady.world.daemon.start()
        bring_all(steady)
        with steady.undisturbed() as consumers:
            mount.swap(new)
            changed = replace(server.sandbox.client, client_secret=new)
            server.call(server.sandbox._server.applications.add, changed)
            steady.rotate()
            steady.catch_up()
            assert consumers.reads > 0
        assert replaced(steady) == ["clients.box.client_secret"]
        assert {steady.world.status(name)["state"] for name in steady.names} == {"fresh"}
        assert not steady.world.daemon.events("grant.expired", "settings.reloaded")


def test_a_second_secret_of_a_client(tmp_path: Path, canary: Canary) -> None:
    """The server is told the new secret at some moment: no refresh token is lost by it."""
    new = canary.plant("second-client-secret")
    change = ("[clients.box]", f'[clients.box]\nsecond_client_secret = "{new}"')
    with steady_with(tmp_path, canary, change, lifetime=LONG_ENOUGH) as steady:
        server, daemon = steady.world.server, steady.world.daemon
        daemon.start()
        bring_all(steady)
        with steady.undisturbed():
            changed = replace(server.sandbox.client, client_secret=new)
            server.call(server.sandbox._server.applications.add, changed)
            steady.rotate()
            steady.catch_up()
        [line] = daemon.events("secret.doubted")
        assert line["setting"] == "clients.box.client_secret"
        assert not daemon.events("client.rejected", "grant.lost", "grant.doubted")
        assert {steady.world.status(name)["state"] for name in steady.names} == {"fresh"}


@pytest.mark.parametrize("kept", ["file", "command"])
def test_the_password_of_redis(tmp_path: Path, canary: Canary, kept: str) -> None:
    old, new = canary.plant("old-redis-password"), canary.plant("new-redis-password")
    mount = Mount(tmp_path / "mount", old)
    is_slow = tmp_path / "slow"
    # A password manager takes its time: longer than any answer of Redis may.
    script = f"test -e {is_slow} && sleep 8; cat {mount.file}"
    source = {
        "file": f'{{ file = "{mount.file}" }}',
        "command": f'{{ command = ["sh", "-c", "{script}"] }}',
    }[kept]
    changes = [("redis://", "redis://daemon@"), ("[log]", f"password = {source}\n[log]")]
    with steady_with(tmp_path, canary, *changes) as steady:
        with steady.world.valkey.client() as redis:
            redis.execute_command("ACL", "SETUSER", "daemon", "on", f">{old}", "~*", "&*", "+@all")
            steady.world.daemon.start()
            bring_all(steady)
            is_slow.touch()
            with steady.undisturbed():
                mount.swap(new)
                redis.execute_command("ACL", "SETUSER", "daemon", "resetpass", f">{new}")
                redis.execute_command("CLIENT", "KILL", "USER", "daemon")
                before = {name: steady.generation(name) for name in steady.names}
                wait_until(lambda: replaced(steady), description="the password is replaced")
                if kept == "command":  # its 8 s held up no refresh
                    assert all(steady.generation(one) >= before[one] + 2 for one in before)
                steady.catch_up()
                steady.rotate()
                steady.catch_up()
        assert replaced(steady) == ["redis.password"]
        reasons = [line["reason"] for line in steady.world.daemon.events("redis.lost")]
        assert not [reason for reason in reasons if "accept" in reason]


def test_a_stop_waits_for_no_reload(tmp_path: Path, canary: Canary) -> None:
    """Loading that hangs would leave SIGTERM unheard until the supervisor kills exchanges."""
    script = f"test -e {tmp_path}/slow && touch {tmp_path}/begun && sleep 9 && touch {tmp_path}/end"
    command = f'{{ command = ["sh", "-c", "{script}; cat {tmp_path}/box.secret"] }}'
    with steady_with(tmp_path, canary, ('{ file = "box.secret" }', command)) as steady:
        daemon = steady.world.daemon
        daemon.start()
        bring_all(steady)
        (tmp_path / "slow").touch()
        daemon.hang_up()
        wait_until((tmp_path / "begun").exists, description="loading has begun")
        assert daemon.stop() == 0
        assert not (tmp_path / "end").exists()
        assert daemon.events("daemon.stopped")
