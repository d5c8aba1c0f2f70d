"""Brings Redis to what the vault says: what is new, what was lost, what somebody changed.

One step at a time in one task, the most urgent first: publications go out in the order
they were made, and no repair can overtake a newer publication.
"""

import math
from collections.abc import Callable, Collection, Sequence

import anyio

from refresher.clock import Clock
from refresher.domain.grants import Publication, is_valid_name
from refresher.errors import VaultError
from refresher.logs import Event, emit
from refresher.publication import observation
from refresher.publication.observation import Difference, Observed
from refresher.publication.publisher import BATCH, Outcome, Publisher, PublishReport
from refresher.publication.source import Source
from refresher.publication.sweep import Sweep
from refresher.publication.worklist import Worklist

SWEEP_EVERY = 60.0
"""Seconds from the end of one slow walk to the beginning of the next."""

SWEEP_SHARE = 4.0
"""Pause after each step of the slow walk, as a multiple of the time the step took."""

VAULT_PAUSE = 0.5
"""Seconds before a vault that refused a read is asked again."""

OnPublished = Callable[[str, int, float], None]
"""Is told grant, version and the seconds from ``mark`` to the acknowledged publication."""


class Reconciler:
    """The work of the mirror while Redis answers.

    Args:
        sweep_every: seconds between two slow walks.
        on_published: called for every publication that ``worklist.mark`` asked for.
    """

    def __init__(
        self,
        *,
        publisher: Publisher,
        source: Source,
        clock: Clock,
        worklist: Worklist,
        sweep_every: float,
        on_published: OnPublished | None,
    ) -> None:
        self._publisher = publisher
        self._source = source
        self._clock = clock
        self._worklist = worklist
        self._on_published = on_published
        self._sweep = Sweep(publisher=publisher, source=source, clock=clock)
        self._sweep_every = sweep_every
        self._sweep_at = math.inf
        self._repaired = 0
        self._rebuilt = 0
        self._rebuild_began = 0.0
        self._spared: set[str] = set()
        """Grants whose token of an earlier life was announced and is still there."""
        self.expected: dict[str, float] | None = None
        """When each readable token ends, by name; kept only while they have to be polled."""

    async def work(self) -> None:
        """Do steps for ever.

        Raises:
            PublicationUnavailable: as soon as Redis cannot be used.
        """
        while True:
            await self.step()

    async def step(self) -> None:
        """Do the most urgent thing, or wait for one.

        Raises:
            PublicationUnavailable: when Redis cannot be used.
        """
        worklist = self._worklist
        try:
            if worklist.has_unsent:
                await self._send_marked()
            elif worklist.rebuild_after is not None:
                await self._rebuild_next(worklist.rebuild_after)
            elif names := worklist.take_suspects():
                await self._verify(names)
            elif self._clock.monotonic() >= self._sweep_at:
                await self._sweep_next()
            else:
                self._report_repairs()
                await worklist.wait(self._sweep_at - self._clock.monotonic())
        except VaultError:
            # Its owner announces it; nothing was forgotten, the rows are read again.
            await anyio.sleep(VAULT_PAUSE)

    def restart(self, *, polling: bool) -> None:
        """Begin anew: Redis may have lost anything while it was away."""
        self.expected = {} if polling else None
        self._sweep.restart()
        self._sweep_at = math.inf
        self._worklist.rebuild("connected")

    def sweep_now(self) -> None:
        """Begin the slow walk at once: our clock was stepped, and with it what is right."""
        if self._worklist.rebuild_after is None:
            self._sweep.restart()
            self._sweep_at = self._clock.monotonic()
            self._worklist.wake()

    async def _send_marked(self) -> None:
        """Publish what the engine committed."""
        marked = self._worklist.take_marked()
        try:
            now = self._clock.now()
            rows = await self._source.read(list(marked))
            report = await self._publish(rows, now)
        except BaseException:
            self._worklist.put_back()
            raise
        self._worklist.acknowledge()
        for name in marked.keys() - {row.grant.name for row in rows}:
            self._worklist.suspect(name)  # the vault does not know it any more
        if self._on_published is None:
            return
        acknowledged = self._clock.monotonic()
        for row in rows:
            name = row.grant.name
            if report.tokens[name] in {Outcome.WRITTEN, Outcome.REWRITTEN}:
                self._on_published(name, row.grant.version, acknowledged - marked[name])

    async def _rebuild_next(self, after: int) -> None:
        """Publish the next batch of everything."""
        if after == 0:
            self._rebuilt, self._rebuild_began = 0, self._clock.monotonic()
        now = self._clock.now()
        rows = await self._source.walk(after, BATCH)
        await self._publish(rows, now)
        self._rebuilt += len(rows)
        if self._worklist.rebuild_after != after:
            return  # flushed meanwhile: it begins again
        if rows:
            self._worklist.rebuild_after = rows[-1].grant.id
            return
        self._worklist.rebuild_after = None
        ended = self._clock.monotonic()
        self._sweep_at = ended + self._sweep_every
        emit(
            Event.MIRROR_REBUILT,
            count=self._rebuilt,
            duration_ms=round((ended - self._rebuild_began) * 1000, 1),
            reason=self._worklist.rebuild_reason,
        )

    async def _sweep_next(self) -> None:
        """One step of the slow walk; its pauses keep it to a fifth of the time."""
        began = self._clock.monotonic()
        if names := await self._sweep.next():
            await self._verify(names, by_sweep=True)
        ended = self._clock.monotonic()
        pause = self._sweep_every if self._sweep.is_done else SWEEP_SHARE * (ended - began)
        self._sweep_at = ended + pause

    async def _verify(self, names: Sequence[str], *, by_sweep: bool = False) -> None:
        """Compare NAMES with the vault, Redis read first, and mend what differs."""
        keys, server = self._publisher.keys, self._publisher.server
        names = [name for name in names if is_valid_name(name)]
        observed = await observation.observe(server, keys, names)
        now = self._clock.now()
        try:
            rows = {row.grant.name: row for row in await self._source.read(names)}
        except VaultError:
            for name in names:
                self._worklist.suspect(name)
            raise
        missing = [one for one in names if one not in rows and not observed[one].is_absent]
        unknown = [one for one in missing if not self._source.may_be_set_aside(one)]
        if unknown:
            await self._publisher.remove(unknown)
        for name, row in rows.items():
            self._note_earlier_life(row, observed[name], now)
        differences = {
            name: difference
            for name, row in rows.items()
            if not self._worklist.is_marked(name)
            and (difference := observation.compare(row, observed[name], now))
        }
        await self._mend(rows, differences, now)
        mended = [name for name, one in differences.items() if by_sweep or not one.is_behind]
        for name in mended:
            self._worklist.hold(name)
            _announce_foreign(rows[name], observed[name], differences[name])
        self._repaired += len(mended) + len(unknown)

    async def _mend(
        self, rows: dict[str, Publication], differences: dict[str, Difference], now: float
    ) -> None:
        """Publish again what differs, over whatever is foreign."""
        if any(difference.in_life_only for difference in differences.values()):
            await self._publisher.measure_clock()
        foreign = {name for name, difference in differences.items() if difference.is_foreign}
        spared = {name for name, difference in differences.items() if difference.spares_token}
        await self._publish([rows[name] for name in differences], now, force=foreign, spared=spared)

    async def _publish(
        self,
        rows: Sequence[Publication],
        now: float,
        force: Collection[str] = (),
        spared: Collection[str] = (),
    ) -> PublishReport:
        """Publish ROWS; what is refused is looked at again, and what must be there noted."""
        report = await self._publisher.publish(rows, now=now, force=force, spared=spared)
        for name in report.refused:
            self._worklist.suspect(name)
        if self.expected is not None:
            for row in rows:
                if observation.should_be_readable(row, now):
                    self.expected[row.grant.name] = row.grant.expires_at or math.inf
                else:
                    self.expected.pop(row.grant.name, None)
        return report

    def _note_earlier_life(self, row: Publication, observed: Observed, now: float) -> None:
        """Say once of each grant that its token in Redis is left alone."""
        name = row.grant.name
        if not observation.is_of_earlier_life(row, observed, now):
            self._spared.discard(name)
        elif name not in self._spared:
            self._spared.add(name)
            self._source.seen_newer(name, now)
            emit(
                Event.EARLIER_LIFE_KEPT,
                grant=name,
                version=observed.version,
                remaining_s=round(observed.life, 1),
            )

    def _report_repairs(self) -> None:
        """One line for all repairs since the last quiet moment."""
        if self._repaired:
            emit(Event.MIRROR_REPAIRED, count=self._repaired)
            self._repaired = 0


def _announce_foreign(row: Publication, observed: Observed, difference: Difference) -> None:
    grant = row.grant
    if observed.version > grant.version and not difference.spares_token:
        emit(Event.FOREIGN_OVERWRITTEN, grant=grant.name, version=observed.version)
    elif observed.revision > grant.revision:
        emit(Event.FOREIGN_OVERWRITTEN, grant=grant.name, revision=observed.revision)
