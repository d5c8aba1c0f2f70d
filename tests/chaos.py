"""Everything at once, on real processes: daemon, Valkey, sandbox, consumers, a tormentor.

``python -m tests.chaos --minutes 10 [--seed S] [--json]``. The tormentor kills and pauses
processes, cuts the authorization server off, flushes, restarts and freezes Redis, locks
the vault, fills its disk, and steps the daemon's clock; it ends with a table.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from redis.asyncio import Redis
from redis.exceptions import RedisError

from refresher.client import TokenReader
from refresher.publication.private_server import PrivateValkey
from refresher.sandbox import Sandbox, SandboxOptions
from refresher.sandbox.exchange_log import ExchangeRecord, overlaps
from refresher.sandbox.faults import DropAfter, RetryAfter, Slow, Status, StatusAfter, spread
from refresher.sandbox.visitor import Visitor
from tests.support.daemon import CLIENT, DaemonProcess

GRANTS = 12
LIFETIME = 20.0
READ_EVERY = 0.2
CALM = (1.0, 5.0)
"""Seconds between two torments."""

HEALED_WITHIN = 60.0


@dataclass
class Findings:
    """What the consumers and the logs showed."""

    reads: int = 0
    stale: int = 0
    """Reads of a lower version than one read before."""
    expired: int = 0
    """Tokens from Redis that the resource refused."""
    longest_gap: float = 0.0
    newest: dict[str, int] = field(default_factory=dict)
    seen_at: dict[str, float] = field(default_factory=dict)


class Chaos:
    """One run."""

    def __init__(self, folder: Path, sandbox: Sandbox, seed: int, only: Sequence[str] = ()) -> None:
        self.only = only
        self.chance = random.Random(seed)  # noqa: S311  a replayable tormentor
        self.sandbox = sandbox
        self.valkey = PrivateValkey()
        self.daemon = DaemonProcess(folder)
        self.offset_file = folder / "clock-offset"
        self.faults: Counter[str] = Counter()
        self.heals: dict[str, list[float]] = {}
        self.findings = Findings()
        self.breaks: list[float] = []
        """When a daemon was killed or paused: what overlaps there came not from the living."""

    async def run(self, seconds: float) -> dict[str, Any]:
        """Torment for SECONDS, heal, and tell."""
        self.valkey.start()
        try:
            await self._prepare()
            async with anyio.create_task_group() as tasks:
                for number in range(GRANTS):
                    tasks.start_soon(self._consume, f"g{number}")
                with anyio.move_on_after(seconds):
                    await self._torment()
                await self._until_healed(HEALED_WITHIN)
                tasks.cancel_scope.cancel()
            await anyio.to_thread.run_sync(self.daemon.stop)
            return self._told()
        finally:
            if self.daemon.process is not None and self.daemon.process.poll() is None:
                self.daemon.process.send_signal(signal.SIGCONT)
                self.daemon.kill()
            self.valkey.stop()

    async def _prepare(self) -> None:
        self.offset_file.write_text("0")
        client = CLIENT.format(
            name="box",
            base_url=self.sandbox.base_url,
            client_id="sandbox-client",
            client_secret="sandbox-secret",
            rotation="grace(30)",
            more="",
        )
        self.daemon.prepare(redis_url=self.valkey.url, clients=client)
        await self._start_daemon()
        lines = []
        for number in range(GRANTS):
            minted = self.sandbox.mint(subject=f"s{number}")
            lines.append(
                json.dumps(
                    {"name": f"g{number}", "client": "box", "refresh_token": minted.refresh_token}
                )
            )
        text = "\n".join(lines)
        await anyio.to_thread.run_sync(lambda: self.daemon.command("import", "-", text=text))
        await self._until_healed(20)

    async def _torment(self) -> None:
        torments: dict[str, Callable[[], Awaitable[None]]] = {
            "daemon killed": self._kill_daemon,
            "daemon paused": self._pause_daemon,
            "server cut off": self._cut_server,
            "answers lost": self._lose_answers,
            "redis flushed": self._flush,
            "redis killed": self._kill_redis,
            "redis frozen": self._freeze_redis,
            "vault locked": self._lock_vault,
            "disk full": self._fill_disk,
            "clock stepped": self._step_clock,
        }
        while True:
            await anyio.sleep(self.chance.uniform(*CALM))
            kind = self.chance.choice(self.only or list(torments))
            self.faults[kind] += 1
            with anyio.CancelScope(shield=True):
                await torments[kind]()
                started = time.monotonic()
                try:
                    await self._until_healed(HEALED_WITHIN)
                except TimeoutError as error:
                    log = self.daemon.log.read_text()[-8000:]
                    raise AssertionError(
                        f"not healed after {kind}; the log ends:\n{log}"
                    ) from error
                self.heals.setdefault(kind, []).append(time.monotonic() - started)

    async def _kill_daemon(self) -> None:
        self.breaks.append(time.time())
        await anyio.to_thread.run_sync(self.daemon.kill)
        await anyio.sleep(self.chance.uniform(0, 3))
        await self._start_daemon()

    async def _pause_daemon(self) -> None:
        assert self.daemon.process is not None
        self.breaks.append(time.time())
        self.daemon.process.send_signal(signal.SIGSTOP)
        await anyio.sleep(self.chance.uniform(0.5, 4))
        self.daemon.process.send_signal(signal.SIGCONT)

    async def _cut_server(self) -> None:
        async with self.sandbox.unreachable():
            await anyio.sleep(self.chance.uniform(0.5, 5))

    async def _lose_answers(self) -> None:
        kinds = (DropAfter(), StatusAfter(), Slow(seconds=3), Status(), RetryAfter(seconds=1))
        self.sandbox.faults.enqueue(*spread(kinds, every=3, exchanges=15, seed=self.faults.total()))
        await anyio.sleep(1)

    async def _flush(self) -> None:
        async with Redis.from_url(self.valkey.url) as redis:
            await redis.flushall()

    async def _kill_redis(self) -> None:
        self.valkey.kill()
        await anyio.sleep(self.chance.uniform(0, 3))
        self.valkey.start()

    async def _freeze_redis(self) -> None:
        self.valkey.pause()
        await anyio.sleep(self.chance.uniform(1, 4))
        self.valkey.resume()

    async def _lock_vault(self) -> None:
        """Another process keeps the database for longer than anybody waits for it."""
        connection = sqlite3.connect(self.daemon.folder / "refresher.db", isolation_level=None)
        try:
            connection.execute("PRAGMA busy_timeout = 3000")
            connection.execute("BEGIN EXCLUSIVE")
            await anyio.sleep(self.chance.uniform(1, 7))
            connection.execute("ROLLBACK")
        finally:
            connection.close()

    async def _fill_disk(self) -> None:
        """Take the room the vault's file system has left, for a while."""
        filler = self.daemon.folder / "filler"
        free = os.statvfs(self.daemon.folder)
        room = free.f_bavail * free.f_frsize
        if room > 64 * 1024 * 1024:
            self.faults["disk full"] -= 1  # the folder is not on a small file system of ours
            return
        with filler.open("wb") as file, suppress(OSError):
            file.write(bytes(room))
            file.flush()
        await anyio.sleep(self.chance.uniform(2, 8))
        filler.unlink()

    async def _step_clock(self) -> None:
        step = self.chance.choice([-7200, -600, -30, 30, 600, 7200])
        self.offset_file.write_text(str(float(self.offset_file.read_text()) + step))
        await anyio.sleep(1)

    async def _start_daemon(self) -> None:
        seen = self.daemon.ready_count()
        self.daemon.start_stepped(self.offset_file)
        with anyio.fail_after(20):
            while self.daemon.ready_count() == seen:  # noqa: ASYNC110  another process
                await anyio.sleep(0.05)

    async def _until_healed(self, seconds: float) -> None:
        """Until every grant can be read and used again."""
        reader = TokenReader.from_url(self.valkey.url)
        try:
            async with Visitor(self.sandbox.resource_url) as visitor:
                with anyio.fail_after(seconds):
                    for number in range(GRANTS):
                        name = f"g{number}"
                        while not await self._is_usable(reader, visitor, name):  # noqa: ASYNC110  Redis
                            await anyio.sleep(0.1)
        finally:
            await reader.aclose()

    async def _is_usable(self, reader: TokenReader, visitor: Visitor, name: str) -> bool:
        try:
            token = await reader.get(name)
        except (RedisError, OSError):
            return False
        return token is not None and await visitor.is_accepted(token.authorization)

    async def _consume(self, name: str) -> None:
        """Read as a consumer does, for ever, whatever Redis does."""
        async with Visitor(self.sandbox.resource_url) as visitor:
            while True:
                reader = TokenReader.from_url(self.valkey.url)
                try:
                    with suppress(RedisError, OSError):
                        await self._read_on(name, reader, visitor)
                finally:
                    with anyio.CancelScope(shield=True), suppress(RedisError, OSError):
                        await reader.aclose()
                await anyio.sleep(0.1)

    async def _read_on(self, name: str, reader: TokenReader, visitor: Visitor) -> None:
        found = self.findings
        while True:
            token = await reader.get(name)
            found.reads += 1
            if token is not None:
                found.stale += token.version < found.newest.get(name, 0)
                found.newest[name] = max(token.version, found.newest.get(name, 0))
                found.expired += not await visitor.is_accepted(token.authorization)
                now = time.monotonic()
                gap = now - found.seen_at.get(name, now)
                found.longest_gap = max(found.longest_gap, gap)
                found.seen_at[name] = now
            await anyio.sleep(READ_EVERY)

    def _told(self) -> dict[str, Any]:
        lost = [family for family in self.sandbox.families if family.revoked_at is not None]
        return {
            "faults": dict(sorted((+self.faults).items())),
            "heal_s": {kind: round(max(each), 1) for kind, each in sorted(self.heals.items())},
            "exchanges": len(self.sandbox.log),
            "reads": self.findings.reads,
            "lost": max(len(lost), len(self.daemon.events("grant.lost"))),
            "double_exchanges": len(self._double()),
            "stale_reads": self.findings.stale,
            "expired_reads": self.findings.expired,
            "canary_hits": self._canary_hits(),
            "longest_gap_s": round(self.findings.longest_gap, 1),
        }

    def _double(self) -> list[tuple[ExchangeRecord, ExchangeRecord]]:
        return [
            (first, second)
            for first, second in overlaps(self.sandbox.log)
            if not any(first.arrived_at - 5 <= at <= second.arrived_at for at in self.breaks)
        ]

    def _canary_hits(self) -> int:
        """Secrets of the server found in the log or in any byte the daemon left on disk."""
        secrets = [secret.encode() for secret in self.sandbox.secrets()]
        secrets.append(b"sandbox-secret")
        hits = 0
        for path in self.daemon.folder.iterdir():
            if path.is_file() and path != self.daemon.config:
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


def main() -> int:
    """Run from the command line; the folder is a small tmpfs where that can be mounted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", action="append", help="a torment, such as 'redis killed'")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="refresher-chaos-") as name:
        mounted = mount_small(Path(name))
        try:
            seconds, only = options.minutes * 60, options.only or ()
            result = anyio.run(run_chaos, Path(name), seconds, options.seed, only)
        finally:
            if mounted:
                subprocess.run(["umount", "-l", name], check=True)  # noqa: S607  the system's
    if options.json:
        sys.stdout.write(json.dumps({"seed": options.seed, **result}) + "\n")
    else:
        for kind, value in result.items():
            sys.stdout.write(f"{kind:18} {value}\n")
    return 0 if holds(result) else 1


def mount_small(folder: Path) -> bool:
    """Mount 48 MiB of memory on FOLDER, so that a full disk hurts nobody else."""
    command = ["mount", "-t", "tmpfs", "-o", "size=48m,mode=700", "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
