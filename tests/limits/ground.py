"""Three daemons on one vault, and a server that refuses what is too much."""

import json
import shutil
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from refresher.demo.private_server import PrivateValkey
from refresher.sandbox import Sandbox
from refresher.sandbox.exchange_log import ExchangeRecord
from refresher.sandbox.families import TokenPolicy
from tests.support.daemon import CLIENT, DaemonProcess
from tests.support.postgresql import private_postgres
from tests.support.waiting import eventually

NAMES = ("a", "b", "c")

SHARED = 6.0
"""Seconds after the last has begun in which each learns its part."""

DONE_WITHIN = 900.0
"""Seconds in which what is due is done, on a machine that is busy."""


class Quota:
    """So many requests in any so many seconds; in the place of the sandbox's limiter."""

    def __init__(self, requests: int, seconds: float) -> None:
        self._requests, self._seconds = requests, seconds
        self._taken = deque[float]()
        self.most = 0
        """Requests in the fullest such time."""

    def refuses(self, now: float) -> bool:
        """Whether one more request, at NOW, is one too many."""
        while self._taken and self._taken[0] <= now - self._seconds:
            self._taken.popleft()
        if len(self._taken) >= self._requests:
            return True
        self._taken.append(now)
        self.most = max(self.most, len(self._taken))
        return False


@dataclass
class Ground:
    """Daemons that run, and their server."""

    sandbox: Sandbox
    daemons: Sequence[DaemonProcess]
    valkey: PrivateValkey

    async def start(self) -> None:
        """Start all of them, and wait until each knows its part."""
        for daemon in self.daemons:
            await anyio.to_thread.run_sync(daemon.start)
        await anyio.sleep(SHARED)

    async def stop(self) -> None:
        for daemon in self.daemons:
            assert await anyio.to_thread.run_sync(daemon.stop) == 0

    async def add(self, count: int) -> list[str]:
        """COUNT grants that are due at once; their names."""
        lines, names = [], []
        for number in range(count):
            token = self.sandbox.mint(client_id="crm").refresh_token
            names.append(f"g{number}")
            lines.append(json.dumps({"name": names[-1], "client": "crm", "refresh_token": token}))
        text, daemon = "\n".join(lines), self.daemons[-1]
        await anyio.to_thread.run_sync(lambda: daemon.command("import", "-", text=text))
        return names

    async def served(self, count: int, since: int) -> list[ExchangeRecord]:
        """The requests after the first SINCE, once COUNT grants were served by them."""

        def are_served() -> bool:
            log = self.sandbox.log[since:]
            return len({one.family_id for one in log if one.status == 200}) >= count

        await eventually(are_served, f"{count} grants are served", within=DONE_WITHIN)
        return list(self.sandbox.log[since:])


@asynccontextmanager
async def ground_in(
    folder: Path, sandbox: Sandbox, *, life: float, more: str
) -> AsyncIterator[Ground]:
    """Three daemons that are prepared in FOLDER, with a client of MORE settings.

    Args:
        life: seconds that access tokens live.
    """
    policy = TokenPolicy(rotation="strict", access_token_lifetime=life)
    sandbox.register(client_id="crm", client_secret="sandbox-secret", policy=policy)
    valkey = PrivateValkey()
    daemons = [DaemonProcess(folder / name) for name in NAMES]
    with private_postgres(max_connections="50") as postgres:
        database = postgres.new_database()
        valkey.start()
        try:
            for name, daemon in zip(NAMES, daemons, strict=True):
                daemon.folder.mkdir()
                client = CLIENT.format(
                    name="crm",
                    base_url=sandbox.base_url,
                    client_id="crm",
                    client_secret="sandbox-secret",
                    rotation="strict",
                    more=f'concurrency = 24\ntoken_headers = {{ User-Agent = "{name}" }}\n{more}',
                )
                daemon.prepare(redis_url=valkey.url, clients=client)
                settings = daemon.config.read_text().replace('"debug"', '"info"')
                vault = f'[vault]\nurl = "{postgres.url(database)}"'
                daemon.config.write_text(settings.replace("[vault]", vault))
                if daemon is not daemons[0]:
                    shutil.copy2(daemons[0].folder / "refresher.key", daemon.folder)
            yield Ground(sandbox, daemons, valkey)
        finally:
            for daemon in daemons:
                if daemon.process is not None and daemon.process.poll() is None:
                    daemon.kill()
            valkey.stop()
