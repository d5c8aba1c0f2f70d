"""What system tests share: a daemon, its Redis, its authorization server, and a canary."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from refresher.sandbox import SandboxOptions
from tests.canary import Canary
from tests.support.daemon import DaemonProcess
from tests.support.sandbox import SandboxThread, sandbox_thread
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until

CLIENT = """
[clients.{name}]
authorization_endpoint = "{base_url}/authorize"
token_endpoint = "{base_url}/token"
redirect_uris = ["{redirect_uri}"]
client_id = "{client_id}"
client_secret = {{ file = "{secret_file}" }}
rotation = "strict"
{more}
"""


@dataclass(slots=True, kw_only=True)
class World:
    """Everything one daemon meets."""

    daemon: DaemonProcess
    valkey: Valkey
    server: SandboxThread
    canary: Canary
    lines: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What was imported last, by the name of the grant."""

    def client(
        self,
        name: str,
        *,
        secret: str | None = None,
        client_id: str | None = None,
        redirect_uri: str = "http://127.0.0.1/callback",
        more: str = "",
    ) -> str:
        """Settings of a client; the secret goes into a file and is looked for afterwards."""
        known = self.server.sandbox.client
        file = f"{name}.secret"
        self.secret_file(file, secret or str(known.client_secret))
        return CLIENT.format(
            name=name,
            base_url=self.server.sandbox.base_url,
            client_id=client_id or known.client_id,
            secret_file=file,
            redirect_uri=redirect_uri,
            more=more,
        )

    def secret_file(self, name: str, secret: str) -> None:
        """Put SECRET where an operator would."""
        path = self.daemon.folder / name
        path.touch(0o600)
        path.write_text(secret)

    def import_grants(self, *lines: dict[str, Any]) -> CompletedProcess[str]:
        """Import LINES."""
        self.lines |= {line["name"]: line for line in lines}
        return self.daemon.command("import", "-", text="\n".join(map(json.dumps, lines)))

    def token(self, name: str) -> dict[str, str]:
        """What a consumer reads of NAME; empty if there is no token."""
        return self._hash(f"refresher:token:{name}")

    def status(self, name: str) -> dict[str, str]:
        """What Redis tells about the state of NAME."""
        return self._hash(f"refresher:status:{name}")

    def await_state(self, name: str, state: str) -> None:
        """Wait until Redis tells that NAME is in STATE: a token comes before its status."""
        wait_until(
            lambda: self.status(name).get("state") == state, description=f"{name} is {state}"
        )

    def _hash(self, key: str) -> dict[str, str]:
        with self.valkey.client() as redis:
            fields: dict[str, str] = redis.hgetall(key)
            return fields

    def assert_no_leak(self) -> None:
        """No secret came out anywhere (G5)."""
        with self.valkey.client() as redis:
            assert self.canary.leaks(self.daemon.folder, redis) == []


@contextmanager
def new_world(folder: Path, canary: Canary, options: SandboxOptions) -> Iterator[World]:
    """A Redis and an authorization server; the daemon is the test's to prepare and to start.

    At the end whatever daemon runs is stopped, after and before which nothing secret may be
    found.
    """
    valkey = Valkey()
    valkey.start()
    daemon = DaemonProcess(folder)
    try:
        with sandbox_thread(options) as server:
            canary.watch(server.sandbox.secrets)
            world = World(daemon=daemon, valkey=valkey, server=server, canary=canary)
            yield world
            canary.add((folder / "refresher.key").read_text().strip())
            world.assert_no_leak()
            if daemon.process is not None and daemon.process.poll() is None:
                assert daemon.stop() == 0
            world.assert_no_leak()
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
        valkey.stop()
