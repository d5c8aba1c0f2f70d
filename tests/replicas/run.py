"""One run: torment three replicas and their database, heal, and judge."""

import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from refresher.sandbox import Sandbox, SandboxOptions
from refresher.sandbox.faults import Slow
from tests.chaos.consumers import Consumers
from tests.replicas.ground import PROFILES, Ground, Kept, Replica, ground_in
from tests.replicas.verdict import Trouble, Verdict, died_with, doubles, taken_up
from tests.support.waiting import eventually

CALM = (1.0, 4.0)
"""Seconds between two faults."""

READ_OF_EACH = 4
"""Grants of each rotation that consumers read all the time."""

SLOW_EACH = 6
"""Answers that take longer while a fault happens, so that it meets requests under way."""

BEGUN_WITHIN = 900.0
"""Seconds until every grant has its first token, on a machine that is busy."""

HEALED_WITHIN = 300.0
"""Seconds until every grant is kept again: one who is cut off with the only good answer under
``strict`` is waited for until a minute after its lease, which lasts two."""


class Run:
    """The tormentor."""

    def __init__(self, ground: Ground, seed: int) -> None:
        self._ground = ground
        self._chance = random.Random(seed)  # noqa: S311  moments, not cryptography
        self._faults: Counter[str] = Counter()
        self._troubles: list[Trouble] = []
        self._consumers: dict[str, Consumers] = {}

    async def run(self, seconds: float, grants: int) -> Verdict:
        """Torment for SECONDS."""
        sandbox = self._ground.sandbox
        for replica in self._ground.replicas:
            await self._ground.start(replica)
        kept = await self._ground.add(grants)
        await eventually(
            lambda: len(self._answered_since(0.0)) >= grants,
            "every grant has its first token",
            within=BEGUN_WITHIN,
        )
        async with anyio.create_task_group() as tasks:
            for rotation in PROFILES:
                names = [one.name for one in kept if one.rotation == rotation][:READ_OF_EACH]
                consumers = Consumers(names, self._ground.valkey.url, sandbox.resource_url)
                self._consumers[rotation] = consumers
                consumers.start(tasks)
            with anyio.move_on_after(seconds):
                await self._torment()
            not_kept = await self._heal(kept)
            tasks.cancel_scope.cancel()
        for replica in self._ground.replicas:
            assert await anyio.to_thread.run_sync(replica.daemon.stop) == 0
        return self._judge(kept, not_kept)

    async def _torment(self) -> None:
        """Every kind once, in any order, and again."""
        kinds: dict[str, Callable[[Replica], Awaitable[None]]] = {
            "replica killed": self._kill,
            "replica restarted": self._restart,
            "replica paused": self._pause,
            "postgresql killed": self._kill_database,
            "cut off from postgresql": self._cut_off,
            "cut off from redis": self._cut_off,
        }
        left: list[str] = []
        while True:
            if not left:
                left = list(kinds)
                self._chance.shuffle(left)
            await anyio.sleep(self._chance.uniform(*CALM))
            kind = left.pop()
            with anyio.CancelScope(shield=True):
                await self._harm(kind, kinds[kind])

    async def _harm(self, kind: str, fault: Callable[[Replica], Awaitable[None]]) -> None:
        """Do one FAULT while requests are under way, and note whom it has hit."""
        a, b, c = self._ground.replicas
        some = [self._chance.choice((a, b, c))]
        hit = {
            "postgresql killed": [a, b, c],
            "cut off from postgresql": [a],
            "cut off from redis": [b],
        }.get(kind, some)
        for _ in range(SLOW_EACH):
            seconds = self._chance.uniform(1, 6)
            self._ground.sandbox.faults.enqueue(Slow(seconds=seconds, after_processing=True))
        await anyio.sleep(self._chance.uniform(0.2, 1.0))
        began = time.time()
        await fault(hit[0])
        ended = time.time()
        self._faults[kind] += 1
        self._troubles += [Trouble(one.name, kind, began, ended) for one in hit]
        for one in self._ground.replicas:
            process = one.daemon.process
            assert process is not None
            assert process.poll() is None, f"{one.name} has ended: {_end_of_log(one)}"

    async def _kill(self, replica: Replica) -> None:
        await anyio.to_thread.run_sync(replica.daemon.kill)
        await anyio.sleep(self._chance.uniform(1, 9))
        await self._ground.start(replica)

    async def _restart(self, replica: Replica) -> None:
        """SIGTERM, as an upgrade does: what is under way ends first."""
        assert await anyio.to_thread.run_sync(replica.daemon.stop) == 0, _end_of_log(replica)
        await self._ground.start(replica)

    async def _pause(self, replica: Replica) -> None:
        """For longer than it may miss its heartbeats."""
        assert replica.daemon.process is not None
        replica.daemon.process.send_signal(signal.SIGSTOP)
        await anyio.sleep(self._chance.uniform(4, 15))
        replica.daemon.process.send_signal(signal.SIGCONT)

    async def _kill_database(self, _replica: Replica) -> None:
        self._ground.postgres.kill()
        await anyio.sleep(self._chance.uniform(0, 3))
        self._ground.postgres.launch()
        await anyio.to_thread.run_sync(self._ground.postgres.await_answer)

    async def _cut_off(self, replica: Replica) -> None:
        """Nothing comes through, and nobody is told."""
        proxy = replica.postgres or replica.redis
        assert proxy is not None
        proxy.cut()
        await anyio.sleep(self._chance.uniform(4, 15))
        proxy.is_cut = False

    async def _heal(self, kept: list[Kept]) -> list[Kept]:
        """Wait until every grant is kept on or told as lost; those that are not."""
        since = time.time()

        def left() -> list[Kept]:
            good, lost = self._answered_since(since), self._lost()
            return [one for one in kept if one.family_id not in good and one.name not in lost]

        with anyio.move_on_after(HEALED_WITHIN):
            while left():  # noqa: ASYNC110  other processes
                await anyio.sleep(0.5)
        return left()

    def _answered_since(self, since: float) -> set[str | None]:
        """Families that got tokens after SINCE."""
        return {
            record.family_id
            for record in self._ground.sandbox.log
            if record.arrived_at >= since and record.status == 200
        }

    def _lost(self) -> dict[str, str]:
        """The reason of each grant that was told as lost."""
        return {
            str(line["grant"]): str(line["reason"]).partition(":")[0]
            for replica in self._ground.replicas
            for line in replica.daemon.events("grant.lost")
        }

    def _judge(self, kept: list[Kept], not_kept: list[Kept]) -> Verdict:
        log, troubles, told = self._ground.sandbox.log, self._troubles, self._lost()
        revoked = {
            family.family_id
            for family in self._ground.sandbox.families
            if family.revoked_at is not None
        }
        lost = [one for one in kept if one.name in told or one.family_id in revoked]
        unavoidable = died_with(log, troubles)
        explained = [
            one
            for one in lost
            if one.rotation == "strict"
            and told.get(one.name) == "rotation_lost"
            and one.family_id in unavoidable
        ]
        by_rotation = Counter(one.rotation for one in lost if one not in explained)
        again = taken_up(log, troubles)
        found = {rotation: each.findings for rotation, each in self._consumers.items()}
        # A server that sees a strict token again ends the one that consumers have, too.
        ended = {one.name for one in explained}
        refused = sum((each.refused for each in found.values()), Counter[str]())
        return Verdict(
            faults=dict(self._faults),
            exchanges=len(log),
            reads=sum(each.reads for each in found.values()),
            lost={rotation: by_rotation[rotation] for rotation in PROFILES},
            rotation_lost=len(explained),
            not_kept=len(not_kept),
            double_exchanges=len(doubles(log, troubles)),
            stale_reads=sum(each.stale for each in found.values()),
            expired_reads=sum(n for name, n in refused.items() if name not in ended),
            longest_gap_s={rotation: round(each.gap, 1) for rotation, each in found.items()},
            kills_in_exchanges=len(again),
            taken_up_s=round(max((each[0] for each in again), default=0.0), 1),
            all_taken_up_s=round(max((each[-1] for each in again), default=0.0), 1),
            events=self._warned(),
        )

    def _warned(self) -> dict[str, int]:
        lines = [line for each in self._ground.replicas for line in each.daemon.lines()]
        levels = {"warning", "error", "critical"}
        seen = Counter(str(line["event"]) for line in lines if line.get("level") in levels)
        return dict(sorted(seen.items()))


def _end_of_log(replica: Replica) -> str:
    return replica.daemon.log.read_text()[-4000:]


async def run_replicas(folder: Path, seconds: float, grants: int, seed: int) -> Verdict:
    """Torment for SECONDS three replicas in FOLDER that keep GRANTS."""
    options = SandboxOptions(latency=(0.02, 0.2), seed=seed)
    async with Sandbox(options) as sandbox:
        with ground_in(folder, sandbox) as ground:
            return await Run(ground, seed).run(seconds, grants)
