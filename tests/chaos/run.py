"""One run of the chaos: torment, judge, heal, tell."""

import json
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from refresher.sandbox import Sandbox, SandboxOptions
from refresher.sandbox.exchange_log import ExchangeRecord, overlaps
from tests.chaos.consumers import Consumers
from tests.chaos.torments import Torments
from tests.support.daemon import CLIENT

GRANTS = 12
LIFETIME = 20.0
CALM = (1.0, 5.0)
"""Seconds between two torments."""

HEALED_WITHIN = 60.0

SEEN_WITHIN = 1.0
"""Seconds in which every consumer reads again, and knows how long it could not."""


@dataclass
class Row:
    """What one kind of fault did."""

    times: int = 0
    lost: int = 0
    double_exchanges: int = 0
    stale_reads: int = 0
    expired_reads: int = 0
    longest_gap_s: float = 0.0
    slowest_heal_s: float = 0.0


class Chaos:
    """One run."""

    def __init__(self, folder: Path, sandbox: Sandbox, seed: int, only: Sequence[str] = ()) -> None:
        self._only = only
        self._sandbox = sandbox
        self._chance = random.Random(seed)  # noqa: S311  a replayable tormentor
        self._torments = Torments(folder, sandbox, self._chance)
        self._daemon, self._valkey = self._torments.daemon, self._torments.valkey
        self._rows: dict[str, Row] = {}

    async def run(self, seconds: float) -> dict[str, Any]:
        """Torment for SECONDS, heal, and tell."""
        self._valkey.start()
        names = [f"g{number}" for number in range(GRANTS)]
        self._consumers = Consumers(names, self._valkey.url, self._sandbox.resource_url)
        try:
            await self._prepare(names)
            async with anyio.create_task_group() as tasks:
                self._consumers.start(tasks)
                with anyio.move_on_after(seconds):
                    await self._torment()
                await self._consumers.until_healed(HEALED_WITHIN)
                tasks.cancel_scope.cancel()
            await anyio.to_thread.run_sync(self._daemon.stop)
            return self._told()
        finally:
            if self._daemon.process is not None and self._daemon.process.poll() is None:
                self._daemon.process.send_signal(signal.SIGCONT)
                self._daemon.kill()
            self._valkey.stop()

    async def _prepare(self, names: Sequence[str]) -> None:
        client = CLIENT.format(
            name="box",
            base_url=self._sandbox.base_url,
            client_id="sandbox-client",
            client_secret="sandbox-secret",
            rotation="grace(30)",
            more="",
        )
        self._daemon.prepare(redis_url=self._valkey.url, clients=client)
        await self._torments.start_daemon()
        lines = [
            {"name": name, "client": "box", "refresh_token": self._sandbox.mint().refresh_token}
            for name in names
        ]
        text = "\n".join(map(json.dumps, lines))
        await anyio.to_thread.run_sync(lambda: self._daemon.command("import", "-", text=text))
        await self._consumers.until_healed(20)

    async def _torment(self) -> None:
        """Every kind once, in any order, and again."""
        kinds, left = self._torments.kinds, list[str]()
        while True:
            await anyio.sleep(self._chance.uniform(*CALM))
            if not left:
                left = list(self._only or kinds)
                self._chance.shuffle(left)
            kind = left.pop()
            with anyio.CancelScope(shield=True):
                await self._judge(kind, kinds[kind])

    async def _judge(self, kind: str, torment: Callable[[], Awaitable[None]]) -> None:
        """Carry out TORMENT, see everything heal, and note what it did."""
        row = self._rows.setdefault(kind, Row())
        before = self._violations()
        self._consumers.findings.gap = 0.0
        row.times += 1
        await torment()
        started = time.monotonic()
        try:
            await self._consumers.until_healed(HEALED_WITHIN)
        except TimeoutError as error:
            log = self._daemon.log.read_text()[-8000:]
            raise AssertionError(f"not healed after {kind}; the log ends:\n{log}") from error
        row.slowest_heal_s = max(row.slowest_heal_s, round(time.monotonic() - started, 1))
        await anyio.sleep(SEEN_WITHIN)
        row.longest_gap_s = max(row.longest_gap_s, round(self._consumers.findings.gap, 1))
        for name, count in self._violations().items():
            setattr(row, name, getattr(row, name) + count - before[name])

    def _violations(self) -> dict[str, int]:
        """What must stay zero, so far."""
        lost = [family for family in self._sandbox.families if family.revoked_at is not None]
        return {
            "lost": max(len(lost), len(self._daemon.events("grant.lost"))),
            "double_exchanges": len(self._double()),
            "stale_reads": self._consumers.findings.stale,
            "expired_reads": self._consumers.findings.expired,
        }

    def _told(self) -> dict[str, Any]:
        return {
            "faults": {kind: row.times for kind, row in sorted(self._rows.items())},
            "exchanges": len(self._sandbox.log),
            "reads": self._consumers.findings.reads,
            **self._violations(),
            "canary_hits": self._canary_hits(),
            "longest_gap_s": max((row.longest_gap_s for row in self._rows.values()), default=0.0),
            "rows": {kind: asdict(row) for kind, row in sorted(self._rows.items())},
        }

    def _double(self) -> list[tuple[ExchangeRecord, ExchangeRecord]]:
        return [
            (first, second)
            for first, second in overlaps(self._sandbox.log)
            if not any(
                first.arrived_at - 5 <= at <= second.arrived_at for at in self._torments.breaks
            )
        ]

    def _canary_hits(self) -> int:
        """Secrets of the server found in the log or in any byte the daemon left on disk."""
        secrets = [secret.encode() for secret in self._sandbox.secrets()]
        secrets.append(b"sandbox-secret")
        hits = 0
        for path in self._daemon.folder.iterdir():
            if path.is_file() and path != self._daemon.config:
                content = path.read_bytes()
                hits += sum(secret in content for secret in secrets)
        return hits


async def run_chaos(
    folder: Path, seconds: float, seed: int, only: Sequence[str] = ()
) -> dict[str, Any]:
    """Torment for SECONDS in FOLDER."""
    options = SandboxOptions(
        rotation="grace",
        grace_seconds=30,
        access_token_lifetime=LIFETIME,
        latency=(0.02, 0.2),
        seed=seed,
    )
    async with Sandbox(options) as sandbox:
        return await Chaos(folder, sandbox, seed, only).run(seconds)


def holds(result: dict[str, Any]) -> bool:
    """Whether no guarantee was violated."""
    kinds = ("lost", "double_exchanges", "stale_reads", "expired_reads", "canary_hits")
    return not any(result[kind] for kind in kinds)
