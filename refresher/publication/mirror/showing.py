"""The first pass of a rebuild: consumers have their tokens back, the soonest to end first.

No status and no event is written, nothing is looked at: whoever reads tokens has them back in
a fraction of the time, and the walk over everything does the rest.

Most of the time nothing was lost: the daemon was started again, or a connection broke. So Redis
is asked first which versions it has. That takes a quarter of what it takes to open a token and
to send it. It is asked until a page shows that most is gone.
"""

from contextlib import suppress

import anyio

from refresher.clock import Clock
from refresher.domain.readable import BEGINNING, Page, Shown
from refresher.errors import PublicationUnavailable, VaultError
from refresher.publication.publisher import Publisher
from refresher.publication.source import Source

SHOWN = 128
"""Readable tokens that are brought back in one round trip."""

ASKED = 256
"""Readable tokens of which Redis is asked for the versions in one round trip."""


class Showing:
    """Brings back the readable tokens that Redis has lost, a page at a time."""

    def __init__(self, *, publisher: Publisher, source: Source, clock: Clock) -> None:
        self._publisher, self._source, self._clock = publisher, source, clock
        self.is_whole = False
        """Whether Redis seems to have most of what it should: asking it is worth while."""
        self.spoilt: set[str] = set()
        """Grants whose token was shown in the place of something else: the walk counts them."""
        self._ahead: Page | None = None
        """The readable tokens whose turn is next, if they are read already."""

    def begin(self, *, is_flushed: bool) -> None:
        """Begin again with the token that ends first.

        Args:
            is_flushed: there is nothing left that Redis could be asked for.
        """
        self.is_whole, self._ahead = not is_flushed, None
        self.spoilt.clear()

    def end(self) -> None:
        """What is published from now on is new to Redis."""
        self.is_whole = False

    async def next(self, after: Shown) -> Shown | None:
        """Bring back the page behind AFTER; where the next one begins, or None at the end.

        Raises:
            PublicationUnavailable: when Redis cannot be used.
            VaultError: when the vault cannot be read; the page can be asked for again.
        """
        after = Shown(self._clock.now()) if after == BEGINNING else after
        return await (self._ask(after) if self.is_whole else self._show(after))

    def found(self, missing: int, count: int) -> None:
        """Note that Redis had lost MISSING of COUNT: no more is asked where that is most."""
        self.is_whole = self.is_whole and 2 * missing <= count

    async def _ask(self, after: Shown) -> Shown | None:
        page = await self._source.versions(after, ASKED)
        missing = await self._publisher.without(page.of)
        self.found(len(missing), len(page.of))
        if not self.is_whole:
            return await self._show(after)
        for start in range(0, len(missing), SHOWN):
            now = self._clock.now()
            rows = await self._source.read(missing[start : start + SHOWN])
            self.spoilt |= await self._publisher.show(rows, now=now)
        return page.last

    async def _show(self, after: Shown) -> Shown | None:
        now = self._clock.now()
        if (page := self._ahead) is None:
            page = await self._source.readable(after, SHOWN)
        self._ahead, fault = None, None
        async with anyio.create_task_group() as tasks:
            if page.last is not None:
                tasks.start_soon(self._read_ahead, page.last)
            try:
                self.spoilt |= await self._publisher.show(page.publications, now=now)
            except PublicationUnavailable as error:
                fault = error  # alone, as everywhere: not in a group
        if fault is not None:
            raise fault
        return page.last

    async def _read_ahead(self, after: Shown) -> None:
        """Let the vault work while Redis does."""
        with suppress(VaultError):  # met again when its turn comes
            self._ahead = await self._source.readable(after, SHOWN)
