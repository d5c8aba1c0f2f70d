"""One run of the demo: everything staged, consumers at work, and what came of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio

from refresher.client import TokenReader
from refresher.clock import SystemClock
from refresher.demo.consumer import Consumer, percentile, publish_latencies
from refresher.demo.stage import Stage, staged
from refresher.sandbox.visitor import Visitor

PUBLISHED_WITHIN = 10.0
"""Seconds the first tokens may take to be read."""


@dataclass(frozen=True, slots=True)
class Performance:
    """What runs, and who reads it."""

    stage: Stage
    consumer: Consumer

    def summary(self) -> dict[str, Any]:
        """Counts of what happened so far, fit for JSON."""
        log = self.stage.sandbox.log
        latencies = publish_latencies(self.consumer.arrivals, self.stage.families, log)
        in_ms = [seconds * 1000 for seconds in latencies]
        shown = {"p50": percentile(in_ms, 0.5), "p99": percentile(in_ms, 0.99)}
        return {
            "grants": len(self.stage.families),
            "exchanges": len(log),
            "rotations": sum(
                record.generation_issued is not None and record.error is None for record in log
            ),
            "injected": dict(self.stage.sandbox.injected),
            "reads": self.consumer.reads,
            "missed_reads": self.consumer.missed,
            "rejected": self.consumer.rejected,
            "overlaps": len(self.stage.sandbox.overlaps()),
            "publish_ms": {
                name: None if value is None else round(value, 2) for name, value in shown.items()
            },
        }


@asynccontextmanager
async def performing(*, grants: int, with_faults: bool) -> AsyncIterator[Performance]:
    """Keep GRANTS grants fresh and read every one of them until the block ends."""
    clock = SystemClock()
    async with (
        staged(grants=grants, with_faults=with_faults) as stage,
        Visitor(stage.sandbox.resource_url) as visitor,
    ):
        reader = TokenReader.from_url(stage.redis_url)
        consumer = Consumer(reader, visitor, clock)
        try:
            await _until_published(reader, stage)
            async with anyio.create_task_group() as tasks:
                for name in stage.families:
                    tasks.start_soon(consumer.read_for_ever, name)
                    tasks.start_soon(consumer.watch, name)
                yield Performance(stage, consumer)
                tasks.cancel_scope.cancel()
        finally:
            await reader.aclose()


async def _until_published(reader: TokenReader, stage: Stage) -> None:
    with anyio.fail_after(PUBLISHED_WITHIN):
        for name in stage.families:
            while await reader.get(name) is None:  # noqa: ASYNC110  Redis sends no event for this
                await anyio.sleep(0.02)
