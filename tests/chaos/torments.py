"""What the tormentor does, one fault at a time; each ends, and everything has to heal."""

import os
import random
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
from redis.asyncio import Redis

from refresher.demo.private_server import PrivateValkey
from refresher.sandbox import Sandbox
from refresher.sandbox.faults import DropAfter, Echo, RetryAfter, Slow, Status, StatusAfter, spread
from tests.support.daemon import DaemonProcess

SMALL = 128 * 1024 * 1024
"""Bytes: a disk with more room than this is not one of ours to fill."""


class Torments:
    """The processes, and the faults that can be done to them.

    Args:
        chance: draws the length of each fault; the same seed draws the same.
    """

    def __init__(self, folder: Path, sandbox: Sandbox, chance: random.Random) -> None:
        self.sandbox = sandbox
        self.valkey = PrivateValkey()
        self.daemon = DaemonProcess(folder)
        self.chance = chance
        self.breaks: list[float] = []
        """When a daemon was killed or paused: what overlaps there came not from the living."""
        self._offset_file = folder / "clock-offset"
        self._offset_file.write_text("0")

    @property
    def kinds(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """Every fault, by name; a full disk only where filling it hurts nobody else."""
        kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "daemon killed": self._kill_daemon,
            "daemon restarted": self._restart_daemon,
            "daemon paused": self._pause_daemon,
            "server cut off": self._cut_server,
            "answers lost": self._lose_answers,
            "redis flushed": self._flush,
            "redis killed": self._kill_redis,
            "redis frozen": self._freeze_redis,
            "redis full": self._fill_redis,
            "redis read-only": self._demote_redis,
            "vault locked": self._lock_vault,
            "clock stepped": self._step_clock,
        }
        return kinds | ({"disk full": self._fill_disk} if self._room() <= SMALL else {})

    async def start_daemon(self) -> None:
        """Start the daemon on the clock that can be stepped, and see it ready."""
        seen = self.daemon.ready_count()
        self.daemon.start_stepped(self._offset_file)
        with anyio.fail_after(60):
            while self.daemon.ready_count() == seen:  # noqa: ASYNC110  another process
                await anyio.sleep(0.05)

    def _room(self) -> int:
        free = os.statvfs(self.daemon.folder)
        return free.f_bavail * free.f_frsize

    async def _kill_daemon(self) -> None:
        self.breaks.append(time.time())
        await anyio.to_thread.run_sync(self.daemon.kill)
        await anyio.sleep(self.chance.uniform(0, 3))
        await self.start_daemon()

    async def _restart_daemon(self) -> None:
        """SIGTERM: exchanges in flight end first."""
        assert await anyio.to_thread.run_sync(self.daemon.stop) == 0
        await anyio.sleep(self.chance.uniform(0, 2))
        await self.start_daemon()

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
        kinds = (
            *(DropAfter(), StatusAfter(), Slow(seconds=3), Status(), RetryAfter(seconds=1)),
            Echo(code=503, error="temporarily_unavailable"),
        )
        seed = self.chance.randrange(1_000_000)
        self.sandbox.faults.enqueue(*spread(kinds, every=3, exchanges=18, seed=seed))
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

    async def _fill_redis(self) -> None:
        """It has no memory left and evicts nothing: every write is refused."""
        async with Redis.from_url(self.valkey.url) as redis:
            await redis.config_set("maxmemory", 1)
            await anyio.sleep(self.chance.uniform(1, 4))
            await redis.config_set("maxmemory", 0)

    async def _demote_redis(self) -> None:
        """A failover made it the replica of a master that cannot be reached."""
        async with Redis.from_url(self.valkey.url) as redis:
            await redis.replicaof("127.0.0.1", 1)
            await anyio.sleep(self.chance.uniform(1, 4))
            await redis.replicaof("NO", "ONE")

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
        filler, room = self.daemon.folder / "filler", self._room()
        with filler.open("wb") as file, suppress(OSError):
            file.write(bytes(room))
            file.flush()
        await anyio.sleep(self.chance.uniform(2, 8))
        filler.unlink()

    async def _step_clock(self) -> None:
        step = self.chance.choice([-7200, -600, -30, 30, 600, 7200])
        self._offset_file.write_text(str(float(self._offset_file.read_text()) + step))
        await anyio.sleep(1)
