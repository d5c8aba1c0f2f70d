"""A daemon whose tokens never stop being refreshed, and what must hold whatever Redis does."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from refresher.sandbox import Minted, SandboxOptions
from refresher.sandbox.exchange_log import ExchangeRecord
from tests.canary import Canary
from tests.support.consumers import Consumers, consuming
from tests.support.waiting import wait_until
from tests.system.world import World, new_world

GRANTS = 4

LIFETIME = 3.0
"""Seconds an access token lives: each is refreshed when half of them have passed."""


@dataclass(slots=True, kw_only=True)
class Steady:
    """Grants of a running daemon, and what they are to the server."""

    world: World
    minted: Mapping[str, Minted] = field(default_factory=dict)

    @property
    def names(self) -> Sequence[str]:
        """Every grant."""
        return list(self.minted)

    def exchanges(self, name: str) -> list[ExchangeRecord]:
        """Every token request for NAME so far."""
        family = self.minted[name].family_id
        return [one for one in self.world.server.sandbox.log if one.family_id == family]

    def generation(self, name: str) -> int:
        """How many refresh tokens of NAME the server has issued."""
        family = self.world.server.sandbox.families.find(self.minted[name].family_id)
        assert family is not None
        return family.generation

    def is_current(self, name: str) -> bool:
        """Whether consumers read the token that the server issued last, and may use it."""
        token = self.world.token(name).get("access_token", "")
        families = self.world.server.sandbox.families
        used = self.world.server.call(families.use, token, time.time())
        return used is not None and used.generation == self.generation(name)

    def rotate(self, times: int = 1) -> None:
        """Wait until the server has issued TIMES new refresh tokens for every grant."""
        before = {name: self.generation(name) for name in self.names}
        wait_until(
            lambda: all(self.generation(name) >= before[name] + times for name in self.names),
            description=f"{times} refreshes of every grant",
        )

    def catch_up(self) -> None:
        """Wait until consumers read the newest token of every grant."""
        wait_until(
            lambda: all(self.is_current(name) for name in self.names),
            description="the newest token of every grant can be read",
        )

    @contextmanager
    def undisturbed(self, names: Sequence[str] | None = None) -> Iterator[Consumers]:
        """Consumers who never read an older or a refused token, and no authorization lost."""
        server = self.world.server
        with consuming(self.world.valkey.url, server, names or self.names) as consumers:
            yield consumers
            # Where Redis was away all the time, they may not have come to it yet.
            wait_until(lambda: consumers.reads > 0, description="a read")
        assert consumers.backwards == [], consumers.backwards[:3]
        assert consumers.refused == [], consumers.refused[:3]
        bad = self.world.daemon.events("grant.lost", "task.restarted")
        assert bad == [], bad
        harmed = [one for one in server.sandbox.families if one.reuses or one.revoked_at]
        assert harmed == [], harmed
        assert server.sandbox.overlaps() == []

    @contextmanager
    def outage(self, *reasons: str) -> Iterator[None]:
        """Redis is lost inside for the last of REASONS, and back at the end with every token.

        The one before may be told, too: what a client sees first of a server that goes.
        """
        lost = len(self.world.daemon.events("redis.lost"))
        connected = len(self.world.daemon.events("redis.connected"))
        yield
        self.catch_up()
        wait_until(
            lambda: len(self.world.daemon.events("redis.connected")) == connected + 1,
            description="one redis.connected",
        )
        self.await_rebuilt()
        told = [line["reason"] for line in self.world.daemon.events("redis.lost")[lost:]]
        what = [reason.partition(": ")[2] for reason in told]
        assert what in (list(reasons[:1]), list(reasons[-1:]), list(reasons))

    def await_rebuilt(self) -> None:
        """Wait until everything was published again since Redis was connected last.

        Tokens are back before the walk over everything ends, and the line comes with its end.
        """

        def is_rebuilt() -> bool:
            lines = self.world.daemon.events("redis.connected", "mirror.rebuilt")
            return bool(lines) and lines[-1]["event"] == "mirror.rebuilt"

        wait_until(is_rebuilt, description="mirror.rebuilt after redis.connected")

    def await_loss(self, reason: str) -> None:
        """Wait until the daemon says that Redis cannot be used for REASON."""

        def is_told() -> bool:
            lines = self.world.daemon.events("redis.lost", "redis.connected")
            return bool(lines) and reason in lines[-1].get("reason", "")

        wait_until(is_told, description=f"redis.lost: {reason}")


@contextmanager
def steady_world(folder: Path, canary: Canary, *, lifetime: float = LIFETIME) -> Iterator[Steady]:
    """A prepared daemon that is not started yet, and minted grants that are not imported."""
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"), access_token_lifetime=lifetime
    )
    with new_world(folder, canary, options) as world:
        world.daemon.prepare(redis_url=world.valkey.url, clients=world.client("box"))
        minted = {f"g{n}": world.server.call(world.server.sandbox.mint) for n in range(GRANTS)}
        yield Steady(world=world, minted=minted)


def bring_all(steady: Steady) -> None:
    """Import every grant of STEADY, and see its first token."""
    steady.world.import_grants(
        *(
            {"name": name, "client": "box", "refresh_token": one.refresh_token}
            for name, one in steady.minted.items()
        )
    )
    steady.catch_up()
