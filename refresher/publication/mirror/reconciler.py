"""Brings Redis to what the vault says: what is new, what was lost, what somebody changed.

One step at a time in one task, the most urgent first: publications go out in the order
they were made, and no repair can overtake a newer publication.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import anyio

from refresher.clock import Clock
from refresher.domain.grants import Publication, is_valid_name
from refresher.domain.readable import BEGINNING, Shown
from refresher.errors import VaultError
from refresher.logs import Event, emit
from refresher.publication.mirror import observation
from refresher.publication.mirror.echo import ABSENT, echo_of
from refresher.publication.mirror.observation import Difference, Observed
from refresher.publication.mirror.showing import Showing
from refresher.publication.mirror.sweep import Sweep
from refresher.publication.mirror.worklist import Due, Worklist
from refresher.publication.publisher import BATCH, Publisher
from refresher.publication.reports import READABLE, PublishReport
from refresher.publication.server.faults import Refused
from refresher.publication.server.scan import START, scan
from refresher.publication.source import Source

SWEEP_EVERY = 60.0
"""Seconds from the end of one slow walk to the beginning of the next."""

SWEEP_SHARE = 4.0
"""Pause after each step of the slow walk, as a multiple of the time the step took."""

SWEEP_RATE = 30.0
"""Commands a second of a slow walk that nothing hurries. Tracking tells nearly everything,
so 100,000 grants may well take three hours, and leave Redis its rest."""

FORBIDDEN_PAUSE = 1.0
"""Seconds of rest after a step that Redis forbade as a whole."""

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
        self._publisher, self._source, self._clock = publisher, source, clock
        self._worklist = worklist
        self._on_published = on_published
        self._showing = Showing(publisher=publisher, source=source, clock=clock)
        self._sweep = Sweep(publisher=publisher, source=source, clock=clock)
        self._sweep_every = sweep_every
        self._sweep_at = math.inf
        self._is_hurried = False
        """Whether the slow walk under way may take a share of the time instead of a rate."""
        self._repaired = 0
        self._rebuilt = 0
        self._rebuild_began = 0.0
        self._rests_until = 0.0
        """Monotonic instant at which a rebuild goes on, once the readable tokens are back."""
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
            elif written := worklist.take_written():
                await self._look(written)
            elif names := worklist.take_recalled():
                now = self._clock.now()
                await self._publish(await self._source.read(names), now)
            elif worklist.show_after is not None:
                await self._show_next(worklist.show_after)
            elif worklist.rebuild_after is not None and self._has_rested():
                await self._rebuild_next(worklist.rebuild_after)
            elif self._publisher.rights.until_try() == 0:
                await self._try_again()
            elif names := worklist.take_suspects():
                await self._verify(names)
            elif worklist.rebuild_after is None and self._clock.monotonic() >= self._sweep_at:
                await self._sweep_next()
            else:
                self._report_repairs()
                await worklist.wait(self._until_next())
        except VaultError:
            # Its owner announces it; nothing was forgotten, the rows are read again.
            await anyio.sleep(VAULT_PAUSE)
        except Refused as refusal:
            self._publisher.rights.note(refusal)
            await anyio.sleep(FORBIDDEN_PAUSE)

    def restart(self, *, polling: bool) -> None:
        """Begin anew: Redis may have lost anything while it was away, the newest most likely."""
        self.expected = {} if polling else None
        self._sweep.restart()
        self._sweep_at = math.inf
        self._worklist.rebuild("connected")
        self._worklist.recall()

    def sweep_now(self) -> None:
        """Begin the slow walk at once: our clock was stepped, and with it what is right."""
        if self._worklist.rebuild_after is None:
            self._sweep.restart()
            self._sweep_at, self._is_hurried = self._clock.monotonic(), True
            self._worklist.wake()

    def _until_next(self) -> float:
        """Seconds until there is something to do that nobody wakes us for."""
        next_walk = self._sweep_at if self._worklist.rebuild_after is None else self._rests_until
        until_sweep = max(0.0, next_walk - self._clock.monotonic())
        until_try = self._publisher.rights.until_try()
        return until_sweep if until_try is None else min(until_sweep, until_try)

    async def _send_marked(self) -> None:
        """Publish what the engine committed."""
        marked = self._worklist.take_marked()
        try:
            now = self._clock.now()
            rows = self._worklist.take_committed()
            known = {row.grant.name for row in rows}
            if unknown := [name for name in marked if name not in known]:
                rows += await self._source.read(unknown)
            report = await self._publish(rows, now)
        except BaseException:
            self._worklist.put_back()
            raise
        self._worklist.acknowledge()
        self._repaired += len(report.spoilt)
        for name in marked.keys() - {row.grant.name for row in rows}:
            self._worklist.suspect(name)  # the vault does not know it any more
        if self._on_published is None:
            return
        acknowledged = self._clock.monotonic()
        for row in rows:
            name = row.grant.name
            if report.tokens[name] in READABLE:
                self._on_published(name, row.grant.version, acknowledged - marked[name])

    def _has_rested(self) -> bool:
        return self._clock.monotonic() >= self._rests_until

    async def _show_next(self, after: Shown) -> None:
        """Bring back the next readable tokens."""
        if after == BEGINNING:
            self._rebuilt, self._rebuild_began = 0, self._clock.monotonic()
            self._showing.begin(is_flushed=self._worklist.rebuild_reason == "flushed")
        last = await self._showing.next(after)
        if self._worklist.show_after is after:  # else flushed meanwhile: it begins again
            self._worklist.show_after = last

    async def _rebuild_next(self, after: int) -> None:
        """Publish the next batch of everything; exchanges have as much of the time as this.

        An import that goes on has more: it ends the sooner, and all is published the sooner. So
        have they where Redis seems to have lost nothing.
        """
        began, now = self._clock.monotonic(), self._clock.now()
        self._worklist.has_grown = False
        rows = await self._source.walk(after, BATCH)
        report = await self._publish(await self._lost(rows, now), now)
        names = {row.grant.name for row in rows}
        self._repaired += len(report.spoilt | (self._showing.spoilt & names))
        self._rebuilt += len(rows) - sum(map(report.is_forbidden, report.tokens))
        is_no_hurry = self._worklist.is_growing or self._showing.is_whole
        share = SWEEP_SHARE if is_no_hurry else 1.0
        ended = self._clock.monotonic()
        self._rests_until = ended + share * (ended - began)
        if self._worklist.rebuild_after != after:
            return  # flushed meanwhile: it begins again
        if rows:
            self._worklist.rebuild_after = rows[-1].grant.id
            return
        if self._worklist.has_grown:
            return  # there are some by now
        self._worklist.rebuild_after = None
        self._showing.end()
        self._sweep_at = ended + self._sweep_every
        if self._worklist.must_walk:
            self._worklist.must_walk = False
            self.sweep_now()
        emit(
            Event.MIRROR_REBUILT,
            count=self._rebuilt,
            duration_ms=round((ended - self._rebuild_began) * 1000, 1),
            reason=self._worklist.rebuild_reason,
        )
        self._rebuilt, self._rebuild_began = 0, ended

    async def _lost(self, rows: Sequence[Publication], now: float) -> Sequence[Publication]:
        """Those of ROWS that are to be published again: all, or what a whole Redis lacks."""
        if not self._showing.is_whole or not rows:
            return rows
        observed = await observation.observe(self._publisher, [row.grant.name for row in rows])
        lost = [row.grant.name for row in rows if not _is_as_told(row, observed, now)]
        self._showing.found(len(lost), len(rows))
        if not self._showing.is_whole:
            return rows
        if self.expected is not None:
            for row in rows:
                self._expect(row, now, self.expected)
        return await self._source.read(lost) if lost else []

    async def _sweep_next(self) -> None:
        """One step of the slow walk, which keeps to its share of the time and its rate."""
        began = self._clock.monotonic()
        self._sweep_at = began + self._sweep_every  # should the step be refused
        if names := await self._sweep.next():
            await self._verify(names, by_sweep=True)
        ended = self._clock.monotonic()
        pause = SWEEP_SHARE * (ended - began)
        if not self._is_hurried:
            pause = max(pause, self._sweep.cost / SWEEP_RATE)
        if self._sweep.is_done:
            pause, self._is_hurried = self._sweep_every, False
        self._sweep_at = ended + pause

    async def _look(self, written: Mapping[str, Due]) -> None:
        """Compare what we wrote a moment ago with what is there now."""
        looks = {name: due.echo for name, due in written.items() if due.echo is not None}
        observed = await observation.observe(self._publisher, list(looks))
        now = self._clock.monotonic()
        for name, due in written.items():
            echo = looks.get(name)
            is_right = due.is_idle or (echo is not None and echo.is_heard(observed[name], now))
            if not is_right:
                self._worklist.suspect(name)

    async def _try_again(self) -> None:
        """Do once, with one grant, what Redis forbade; everything if all is allowed again."""
        rights = self._publisher.rights
        if rights.begin_try():
            self._worklist.rebuild("permitted")
            return
        if rights.name is not None:
            now = self._clock.now()
            await self._publish(await self._source.read([rights.name]), now, again=True)
            await observation.observe(self._publisher, [rights.name])
        await scan(self._publisher.server, START, self._publisher.keys.tokens, 1)

    async def _verify(self, names: Sequence[str], *, by_sweep: bool = False) -> None:
        """Compare NAMES with the vault, Redis read first, and mend what differs."""
        names = [name for name in names if is_valid_name(name)]
        observed = await observation.observe(self._publisher, names)
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
            self._worklist.writing(unknown)
            await self._publisher.remove(unknown)
            for name in unknown:
                self._worklist.wrote(name, ABSENT)
        for name, row in rows.items():
            self._note_earlier_life(row, observed[name], now)
        differences = {
            name: difference
            for name, row in rows.items()
            if not self._worklist.is_marked(name)
            and (difference := observation.compare(row, observed[name], now))
        }
        allowed = await self._mend(rows, differences, now)
        mended = [name for name in allowed if by_sweep or not differences[name].is_behind]
        for name in mended:
            _announce_foreign(rows[name], observed[name], differences[name])
        self._repaired += len(mended) + len(unknown)

    async def _mend(
        self, rows: dict[str, Publication], differences: dict[str, Difference], now: float
    ) -> list[str]:
        """Publish again what differs, over whatever is foreign; what Redis let us."""
        if any(difference.in_life_only for difference in differences.values()):
            await self._publisher.measure_clock()
        foreign = {name for name, difference in differences.items() if difference.is_foreign}
        spared = {name for name, difference in differences.items() if difference.spares_token}
        batch = [rows[name] for name in differences]
        report = await self._publish(batch, now, force=foreign, spared=spared)
        for name in report.refused:
            self._worklist.wrote(name, None)
        return [name for name in differences if not report.is_forbidden(name)]

    async def _publish(
        self,
        rows: Sequence[Publication],
        now: float,
        force: Collection[str] = (),
        spared: Collection[str] = (),
        *,
        again: bool = False,
    ) -> PublishReport:
        """Publish ROWS, and remember what must be there and what is to be looked at.

        What is refused is looked at at once, unless it was being mended.
        """
        self._worklist.writing(row.grant.name for row in rows)
        monotonic = self._clock.monotonic()
        report = await self._publisher.publish(
            rows, now=now, force=force, spared=spared, again=again
        )
        for row in rows:
            name = row.grant.name
            echo = echo_of(name, report, monotonic)
            self._worklist.wrote(name, echo, is_idle=report.is_forbidden(name))
            if self.expected is not None:
                self._expect(row, now, self.expected)
        for name in report.refused:
            self._worklist.unwritten(name)
            self._worklist.suspect(name)
        return report

    @staticmethod
    def _expect(row: Publication, now: float, expected: dict[str, float]) -> None:
        """Note until when the token of ROW must be readable."""
        if observation.should_be_readable(row, now):
            expected[row.grant.name] = row.grant.expires_at or math.inf
        else:
            expected.pop(row.grant.name, None)

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
        """One line for all repairs since the last quiet moment; a rebuild's rest is none."""
        if self._repaired and self._worklist.rebuild_after is None:
            emit(Event.MIRROR_REPAIRED, count=self._repaired)
            self._repaired = 0


def _is_as_told(row: Publication, observed: Mapping[str, Observed], now: float) -> bool:
    """Whether a publication of ROW would change nothing of what was OBSERVED."""
    seen = observed[row.grant.name]
    if seen.is_hidden or seen.version > row.grant.version:
        return False
    return observation.compare(row, seen, now) is None


def _announce_foreign(row: Publication, observed: Observed, difference: Difference) -> None:
    grant = row.grant
    if observed.version > grant.version and not difference.spares_token:
        emit(Event.FOREIGN_OVERWRITTEN, grant=grant.name, version=observed.version)
    elif observed.revision > grant.revision:
        emit(Event.FOREIGN_OVERWRITTEN, grant=grant.name, revision=observed.revision)
