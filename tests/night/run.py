"""The night itself: trouble after trouble, and who looks on."""

import json
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from refresher.demo.private_server import PrivateValkey, free_port
from refresher.sandbox import Sandbox, SandboxOptions
from refresher.sandbox.exchange_log import overlaps
from refresher.sandbox.faults import Echo, FaultMix
from tests.chaos.consumers import Consumers
from tests.prometheus.judging import Prometheus, scraping
from tests.support.daemon import CLIENT, DaemonProcess

GRANTS = 20
LIFETIME = 600.0
"""Seconds of life of an access token: tokens end while the provider is down."""

CALM = 60.0
"""Seconds before the first trouble, in which nothing may be alarmed."""

LOOK_EVERY = 5.0

MENDED_WITHIN = 1_500.0
"""Seconds after the last trouble: a doubted grant is asked for again 1,800 s after its refusal
at the latest, and the troubles after the refusals took longer than the difference."""


@dataclass(slots=True)
class Trouble:
    """One trouble of the night, and what was to be seen of it."""

    name: str
    lasts: float
    """Seconds."""
    expected: frozenset[str]
    """Alerts that have to fire before it ends."""
    to_be_told: frozenset[str] = frozenset()
    """Types of notifications that have to be sent before it ends."""
    fired: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Alerts: seconds from its start, and what they say."""
    told: list[dict[str, Any]] = field(default_factory=list)
    """Notifications."""
    lines: list[dict[str, Any]] = field(default_factory=list)
    """What the daemon logged at level warning and above."""
    status: str = ""
    """What ``refresher status`` said at its end."""


class Night:
    """One run.

    Args:
        folder: a small file system of its own, for the daemon.
        beside: what else is to be written goes here.
        down: seconds for which the provider is down.
    """

    def __init__(self, folder: Path, beside: Path, down: float) -> None:
        self.daemon = DaemonProcess(folder)
        self._beside, self._notified = beside, beside / "notified.jsonl"
        self._valkey = PrivateValkey()
        self._alerted: set[str] = set()
        self.alerted_in_calm: set[str] = set()
        self.troubles = [
            Trouble(
                "the provider is down",
                down,
                frozenset({"RefresherEndpointSuspended", "RefresherGrantsExpired"}),
            ),
            Trouble(
                "the provider refuses everybody",
                300.0,
                frozenset({"RefresherIncident"}),
                frozenset({"incident.opened"}),
            ),
            Trouble(
                "the disk is full",
                120.0,
                frozenset({"RefresherVaultRefuses"}),
                frozenset({"vault.refused"}),
            ),
            Trouble("Redis is gone", 180.0, frozenset({"RefresherRedisAway"})),
        ]
        self.mended_after: float | None = None
        """Seconds from the end of the last trouble until every token could be used again."""
        self.counts: dict[str, int] = {}
        """What must be zero."""
        self.gap = 0.0
        """Seconds for which some grant could not be read, at the most."""
        self.told_after: list[dict[str, Any]] = []
        """Notifications after the last trouble."""
        self.after: list[dict[str, Any]] = []
        """What the daemon logged after the last trouble, about what is well again."""

    async def run(self) -> None:
        """Let it pass."""
        options = SandboxOptions(
            rotation="grace", grace_seconds=30, access_token_lifetime=LIFETIME, seed=1
        )
        async with Sandbox(options) as sandbox:
            self._sandbox = sandbox
            self._valkey.start()
            try:
                await self._pass()
            finally:
                if self.daemon.process is not None and self.daemon.process.poll() is None:
                    self.daemon.kill(signal.SIGKILL)
                if self._valkey.pid is not None:
                    self._valkey.stop()

    async def _pass(self) -> None:
        names = [f"customer-{number:02}" for number in range(GRANTS)]
        target = await self._prepare(names)
        consumers = Consumers(names, self._valkey.url, self._sandbox.resource_url)
        async with self._observed(target) as prometheus, anyio.create_task_group() as tasks:
            await consumers.until_healed(60)
            consumers.start(tasks)
            await self._look_on(prometheus, CALM, lambda _: None)
            self.alerted_in_calm = self._firing_names(prometheus)
            down, refusing, full, gone = self.troubles
            async with self._sandbox.unreachable():
                await self._suffer(prometheus, down)
            refusal = Echo(error="invalid_grant")
            self._sandbox.faults.set_mix(FaultMix(chances=((1.0, refusal),)))
            await self._suffer(prometheus, refusing)
            self._sandbox.faults.set_mix(None)
            filler = self._fill()
            await self._suffer(prometheus, full)
            filler.unlink()
            self._valkey.stop()
            await self._suffer(prometheus, gone)
            self._valkey.start()
            await self._mend(consumers)
            tasks.cancel_scope.cancel()
        await anyio.to_thread.run_sync(self.daemon.stop)

    async def _prepare(self, names: list[str]) -> str:
        """Start the daemon with the grants NAMES; where it is scraped."""
        client = CLIENT.format(
            name="box",
            base_url=self._sandbox.base_url,
            client_id="sandbox-client",
            client_secret="sandbox-secret",
            rotation="grace(30)",
            more="",
        )
        target = f"127.0.0.1:{free_port()}"
        self.daemon.prepare(
            redis_url=self._valkey.url,
            clients=f'{client}\n[http]\nlisten = "{target}"\n\n[[notify]]\n'
            f'command = ["sh", "-c", "(cat; echo) >> {self._notified}"]\n',
        )
        await anyio.to_thread.run_sync(self.daemon.start)
        lines = [
            {"name": name, "client": "box", "refresh_token": self._sandbox.mint().refresh_token}
            for name in names
        ]
        text = "\n".join(map(json.dumps, lines))
        await anyio.to_thread.run_sync(lambda: self.daemon.command("import", "-", text=text))
        return target

    @asynccontextmanager
    async def _observed(self, target: str) -> AsyncIterator[Prometheus]:
        manager = scraping(target, self._beside)
        prometheus = await anyio.to_thread.run_sync(manager.__enter__)
        try:
            yield prometheus
        finally:
            manager.__exit__(None, None, None)

    def _fill(self) -> Path:
        """Leave no byte where the vault is, not even in SQLite's log, which it reuses."""
        filler = self.daemon.folder / "filler"
        for _ in range(3):
            with filler.open("ab", buffering=0) as file, suppress(OSError):  # until it is full
                while file.write(bytes(4_096)):
                    pass
            path = self.daemon.folder / "refresher.db"
            with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as vault:
                vault.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return filler

    async def _suffer(self, prometheus: Prometheus, trouble: Trouble) -> None:
        """Look on for as long as TROUBLE lasts."""
        began, seen, told = time.monotonic(), self._line_count(), len(self._told())

        def note(alert: dict[str, Any]) -> None:
            name = alert["labels"]["alertname"]
            fired = (time.monotonic() - began, alert["annotations"]["summary"])
            trouble.fired.setdefault(name, fired)

        await self._look_on(prometheus, trouble.lasts, note)
        trouble.told = self._told()[told:]
        trouble.lines = self._lines_since(seen, {"warning", "error", "critical"})
        done = await anyio.to_thread.run_sync(
            lambda: self.daemon.command("status", check=None, logged=False)
        )
        trouble.status = done.stdout

    async def _look_on(
        self, prometheus: Prometheus, seconds: float, note: Callable[[dict[str, Any]], None]
    ) -> None:
        ends_at = anyio.current_time() + seconds
        while (left := ends_at - anyio.current_time()) > 0:
            await anyio.sleep(min(LOOK_EVERY, left))
            for alert in await anyio.to_thread.run_sync(prometheus.firing):
                note(alert)

    @staticmethod
    def _firing_names(prometheus: Prometheus) -> set[str]:
        return {alert["labels"]["alertname"] for alert in prometheus.firing()}

    async def _mend(self, consumers: Consumers) -> None:
        """Wait for everything to be well again, with nobody's help."""
        began, seen, told = time.monotonic(), self._line_count(), len(self._told())
        with anyio.move_on_after(MENDED_WITHIN):
            await consumers.until_healed(MENDED_WITHIN)
            while (await self._states()) != {"fresh"}:  # noqa: ASYNC110  another process
                await anyio.sleep(LOOK_EVERY)
            self.mended_after = time.monotonic() - began
            while self._told()[-1]["type"] != "incident.closed":  # noqa: ASYNC110  in a file
                await anyio.sleep(LOOK_EVERY)
        self.told_after = self._told()[told:]
        self.after = self._lines_since(seen, {"info", "warning", "error", "critical"})
        lost = [family for family in self._sandbox.families if family.revoked_at is not None]
        found = consumers.findings
        self.gap = found.gap
        self.counts = {
            "grants lost": max(len(lost), len(self.daemon.events("grant.lost"))),
            "exchanges of one grant at once": len(overlaps(self._sandbox.log)),
            "reads of an older version": found.stale,
            "expired tokens served": found.expired,
        }

    async def _states(self) -> set[str]:
        done = await anyio.to_thread.run_sync(
            lambda: self.daemon.command("status", "--json", "--all", check=None, logged=False)
        )
        return {grant["state"] for grant in json.loads(done.stdout)["grants"]}

    def _told(self) -> list[dict[str, Any]]:
        text = self._notified.read_text() if self._notified.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def _line_count(self) -> int:
        return len(self.daemon.lines())

    def _lines_since(self, seen: int, levels: set[str]) -> list[dict[str, Any]]:
        return [line for line in self.daemon.lines()[seen:] if line.get("level") in levels]
