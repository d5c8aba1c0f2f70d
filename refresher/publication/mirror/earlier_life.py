"""Tokens in Redis that an earlier life of the vault made, for whoever rejects one."""

from collections.abc import Sequence

from refresher.clock import Clock
from refresher.publication.mirror import observation
from refresher.publication.publisher import Publisher
from refresher.publication.source import Source


class EarlierLives:
    """Looks whether Redis shows a token that is newer than all the vault knows."""

    def __init__(self, *, publisher: Publisher, source: Source, clock: Clock) -> None:
        self._publisher = publisher
        self._source = source
        self._clock = clock

    async def __call__(self, names: Sequence[str]) -> dict[str, int]:
        """The version of such a token, by grant, of those among NAMES that have one.

        Raises:
            PublicationUnavailable: when Redis cannot be read.
            VaultError: when the vault cannot.
        """
        observed = await observation.observe(self._publisher, names)
        now = self._clock.now()
        return {
            row.grant.name: observed[row.grant.name].version
            for row in await self._source.read(names)
            if observation.is_of_earlier_life(row, observed[row.grant.name], now)
        }
