"""What daemons on one vault do about each other, second by second."""

from refresher.domain.clients import Client
from refresher.domain.leases import BACK_WITHIN, MISSED
from refresher.engine.durability import Durability
from refresher.engine.replicas import Replicas
from refresher.vault.vault import Vault
from tests.vault.sharing import Shared
from tests.vault.world import CRM

FOUND = MISSED + BACK_WITHIN + 2.0
"""Seconds, with heartbeats each second, in which a holder is known to be dead."""


class Daemon:
    """What a daemon does each second about the others on its vault."""

    def __init__(self, vault: Vault, client: Client = CRM) -> None:
        self.published: list[str] = []
        self.woken = 0
        self.durability = Durability(vault)
        self.replicas = Replicas(
            vault=vault,
            clients={"crm": client},
            durability=self.durability,
            publish=self.published.append,
            wake=self._wake,
            clock=vault.clock,
        )

    def _wake(self) -> None:
        self.woken += 1

    async def turn(self) -> None:
        await self.replicas._turn()
        await self.replicas._offer_again()


async def pass_time(both: Shared, daemon: Daemon, seconds: float) -> None:
    """Let SECONDS pass in which DAEMON beats each second."""
    for _ in range(round(seconds)):
        both.clock.move(1.0)
        await daemon.turn()
