"""The slow walk: every grant and every key once, for what no notification tells.

It only finds suspects; whoever calls it compares them again, Redis first.
"""

from refresher.clock import Clock
from refresher.domain.grants import is_valid_name
from refresher.publication.mirror import observation
from refresher.publication.publisher import Publisher
from refresher.publication.server.scan import START, scan
from refresher.publication.source import Source

GRANTS_AT_ONCE = 32
"""Grants of one step."""

COMMANDS_EACH = 3
"""Commands with which one grant is looked at."""

KEYS_AT_ONCE = 512
"""Keys that one step of SCAN walks, other programs' keys too."""


class Sweep:
    """One walk over the vault's grants, then one over Redis' keys, a batch at a time."""

    def __init__(self, *, publisher: Publisher, source: Source, clock: Clock) -> None:
        self._publisher = publisher
        self._source = source
        self._clock = clock
        self._after: int | None = 0
        self._beginnings: list[str] = []
        self._cursor = START
        self.cost = 0
        """Commands that the last step sent."""

    @property
    def is_done(self) -> bool:
        """Whether the walk has come to its end; the next step begins another one."""
        return self._after == 0

    def restart(self) -> None:
        """Begin again with the first grant."""
        self._after = 0

    async def next(self) -> list[str]:
        """Names of the next batch for which Redis and the vault seem to disagree.

        Raises:
            PublicationUnavailable: when Redis cannot be read.
            VaultError: when the vault cannot; the step can be repeated.
        """
        if self._after is not None:
            return await self._next_grants(self._after)
        return await self._next_keys()

    async def _next_grants(self, after: int) -> list[str]:
        now = self._clock.now()
        rows = await self._source.walk(after, GRANTS_AT_ONCE)
        if not rows:
            self._after, self._cursor = None, START
            keys = self._publisher.keys
            self._beginnings = [keys.tokens, keys.statuses]
            return []
        names = [row.grant.name for row in rows]
        self.cost = COMMANDS_EACH * len(names)
        observed = await observation.observe(self._publisher, names)
        self._after = rows[-1].grant.id
        return [
            row.grant.name
            for row in rows
            if observation.compare(row, observed[row.grant.name], now)
        ]

    async def _next_keys(self) -> list[str]:
        """Grants that have a key and no row."""
        beginning, self.cost = self._beginnings[0], 1
        cursor, keys = await scan(self._publisher.server, self._cursor, beginning, KEYS_AT_ONCE)
        found = {self._publisher.keys.name_of(key) for key in keys}
        names = [name for name in found if name is not None and is_valid_name(name)]
        known = {row.grant.name for row in await self._source.read(names)} if names else set()
        self._cursor = cursor
        if self._cursor == START:
            self._beginnings.pop(0)
        if not self._beginnings:
            self._after = 0
        may_be_set_aside = self._source.may_be_set_aside
        return [name for name in names if name not in known and not may_be_set_aside(name)]
