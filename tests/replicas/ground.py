"""The servers, and three daemons on them: two reach a server through a proxy that can be cut."""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from refresher.demo.private_server import PrivateValkey
from refresher.sandbox import Sandbox
from refresher.sandbox.families import Rotation, TokenPolicy
from tests.support.daemon import CLIENT, DaemonProcess
from tests.support.postgresql import PrivatePostgres, private_postgres
from tests.support.proxy import Proxy, proxy_to

GRACE = 30.0

PROFILES: dict[Rotation, str] = {
    "none": "none",
    "grace": f"grace({GRACE:g})",
    "until_used": "until_used",
    "strict": "strict",
}
"""What the settings say of each rotation."""

LIFETIMES = (20.0, 60.0)
"""Seconds that access tokens live."""

MORE = """
concurrency = 24
token_headers = {{ User-Agent = "{replica}" }}
"""
"""By its name the server's log tells which replica sent a request."""


@dataclass(frozen=True)
class Kept:
    """One grant."""

    name: str
    family_id: str
    rotation: Rotation


@dataclass(frozen=True)
class Replica:
    """One daemon and the ways to its servers; None: the way is a straight one."""

    name: str
    daemon: DaemonProcess
    postgres: Proxy | None = None
    redis: Proxy | None = None


class Ground:
    """Everything that runs."""

    def __init__(
        self,
        folder: Path,
        sandbox: Sandbox,
        postgres: PrivatePostgres,
        valkey: PrivateValkey,
        proxies: tuple[Proxy, Proxy],
    ) -> None:
        self.sandbox, self.postgres, self.valkey = sandbox, postgres, valkey
        self._database = postgres.new_database()
        to_postgres, to_redis = proxies
        self.replicas = [
            Replica("a", DaemonProcess(folder / "a"), postgres=to_postgres),
            Replica("b", DaemonProcess(folder / "b"), redis=to_redis),
            Replica("c", DaemonProcess(folder / "c")),
        ]
        for rotation in PROFILES:
            for lifetime in LIFETIMES:
                policy = TokenPolicy(
                    rotation=rotation, access_token_lifetime=lifetime, grace_seconds=GRACE
                )
                name = client_of(rotation, lifetime)
                sandbox.register(client_id=name, client_secret="sandbox-secret", policy=policy)
        for replica in self.replicas:
            self._prepare(replica)

    async def start(self, replica: Replica, *, wait: bool = True) -> None:
        """Start the daemon of REPLICA and WAIT until it is ready."""
        await anyio.to_thread.run_sync(lambda: replica.daemon.start(wait=wait))

    async def add(self, count: int) -> list[Kept]:
        """COUNT grants, as many of each rotation and lifetime."""
        kinds = [(rotation, lifetime) for rotation in PROFILES for lifetime in LIFETIMES]
        kept, lines = [], []
        for number in range(count):
            rotation, lifetime = kinds[number % len(kinds)]
            client, name = client_of(rotation, lifetime), f"g{number}"
            minted = self.sandbox.mint(client_id=client)
            kept.append(Kept(name, minted.family_id, rotation))
            line = {"name": name, "client": client, "refresh_token": minted.refresh_token}
            lines.append(json.dumps(line))
        daemon, text = self.replicas[-1].daemon, "\n".join(lines)
        await anyio.to_thread.run_sync(lambda: daemon.command("import", "-", text=text))
        return kept

    def end(self) -> None:
        """Kill every daemon that is left."""
        for replica in self.replicas:
            process = replica.daemon.process
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                replica.daemon.kill()

    def _prepare(self, replica: Replica) -> None:
        daemon = replica.daemon
        daemon.folder.mkdir()
        clients = "".join(
            CLIENT.format(
                name=client_of(rotation, lifetime),
                base_url=self.sandbox.base_url,
                client_id=client_of(rotation, lifetime),
                client_secret="sandbox-secret",
                rotation=said,
                more=MORE.format(replica=replica.name),
            )
            for rotation, said in PROFILES.items()
            for lifetime in LIFETIMES
        )
        redis = replica.redis or self.valkey
        daemon.prepare(redis_url=redis.url, clients=clients)
        url = self.postgres.url(self._database)
        if replica.postgres is not None:
            url = url.replace(f":{self.postgres.port}/", f":{replica.postgres.port}/")
        settings = daemon.config.read_text().replace('"debug"', '"info"')
        daemon.config.write_text(settings.replace("[vault]", f'[vault]\nurl = "{url}"'))
        first = self.replicas[0].daemon
        if daemon is not first:
            shutil.copy2(first.folder / "refresher.key", daemon.folder / "refresher.key")


def client_of(rotation: str, lifetime: float) -> str:
    """The name of a client, for the daemon and for its server."""
    return f"{rotation}-{lifetime:g}"


@contextmanager
def ground_in(folder: Path, sandbox: Sandbox) -> Iterator[Ground]:
    """Servers that run, and daemons that are prepared in FOLDER."""
    valkey = PrivateValkey()
    # What was cut off is never closed at the server's side.
    with private_postgres(max_connections="300", log_min_messages="panic") as postgres:
        valkey.start()
        try:
            with proxy_to(postgres.port) as to_postgres, proxy_to(valkey.port) as to_redis:
                ground = Ground(folder, sandbox, postgres, valkey, (to_postgres, to_redis))
                try:
                    yield ground
                finally:
                    ground.end()
        finally:
            valkey.stop()
