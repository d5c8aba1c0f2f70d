"""What people do: at the server, at the control socket, and when they are told to.

They act in the middle of exchanges where they can, since that is where it hurts most.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio

from refresher.domain.grants import GrantState
from refresher.domain.secret import Secret
from refresher.vault.selecting import Selection
from tests.simulation.rows import Row

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

STATIC_FOR = 300.0
"""Seconds a token lives that a person has made, at pace 1."""

LOGS_IN = 0.3
"""Share of looks at which somebody logs in to a doubted grant instead of waiting, at pace 1."""


class People:
    """Operators, and the owners of the accounts."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._made = 0

    def act(self) -> None:
        """Do something that nobody asked for."""
        world, chance = self._world, self._world.chance
        busy = [name for process in world.processes for name in process.in_flight]
        name = chance.choice(busy or list(world.names))
        acts: tuple[tuple[str, float, Callable[[str], None]], ...] = (
            ("revoked by a person", 0.2, self._take_back),
            ("revoke", 0.12, self._revoke),
            ("remove", 0.12, self._remove),
            ("refresh", 0.08, self._refresh),
            ("refresh --lost", 0.15, lambda _: self._ask_lost()),
        )
        for what, probability, work in acts:
            if chance.strikes(what, probability):
                work(name)
                return
        if world.steadiness == 1.0 and chance.strikes("pause", 0.2):
            self._pause(name)
            return
        chance.seen["logins in mid-exchange"] += bool(busy)
        self._log_in(name)

    def interrupt(self, name: str) -> None:
        """End NAME while its request is under way."""
        if self._world.chance.strikes("revoked in mid-exchange", 0.01):
            self._revoke(name)
        elif self._world.chance.strikes("removed in mid-exchange", 0.005):
            self._remove(name)

    def look(self) -> None:
        """Do what is asked for: every state but fresh has its repair."""
        for row in list(self._world.witness.rows.values()):
            if row.client is None:
                self._look_after_static(row)
            elif row.state == GrantState.PAUSED:
                if row.due_at is None or self._world.chance.strikes("resumed early", 0.02):
                    self._resume(row.name)
            elif self._needs_login(row):
                self._log_in(row.name)

    def _needs_login(self, row: Row) -> bool:
        if row.fingerprint is None:
            return True
        world = self._world
        if row.state == GrantState.REAUTHORIZATION_REQUIRED:
            # Lost by a wrong word, it can be had back; whoever logs in at once never learns it.
            return row.due_at is None and not world.chance.strikes("waited with a login", 0.5)
        if row.refused_at is None:
            return False
        line, _ = world.server.issued[row.fingerprint]
        if world.chance.is_calm and not world.is_slow:
            return line.family.revoked_at is not None
        return world.chance.strikes("login to a doubted grant", LOGS_IN / world.pace)

    def _log_in(self, name: str) -> None:
        client = self._world.names[name]

        async def log_in(process: "Process") -> None:
            login = await process.logins.begin(name, client_name=client)
            await anyio.sleep(self._world.chance.between(0.5, 10.0))
            done = await process.logins.finish(login.id, name)
            self._world.witness.logged_in(done.grant)

        self._ask(name, log_in)

    def _take_back(self, name: str) -> None:
        """End the authorization on the server's own pages."""
        row = self._world.witness.rows.get(name)
        if row is not None and row.fingerprint is not None:
            self._world.server.revoke(self._world.server.issued[row.fingerprint][0])

    def _revoke(self, name: str) -> None:
        async def revoke(process: "Process") -> None:
            await process.revoking.revoke(name)

        self._ask(name, revoke)

    def _remove(self, name: str) -> None:
        async def remove(process: "Process") -> None:
            await process.administration.remove(name)

        self._ask(name, remove)

    def _refresh(self, name: str) -> None:
        async def refresh(process: "Process") -> None:
            self._world.witness.refusals.hastened(self._world.witness.rows[name])
            await process.administration.refresh(name)

        self._ask(name, refresh)

    def _pause(self, name: str) -> None:
        chance = self._world.chance
        seconds = chance.choice([None, chance.between(1.0, 600.0)])

        async def pause(process: "Process") -> None:
            await process.administration.pause(Selection(names=[name]), seconds)

        self._ask(name, pause)

    def _resume(self, name: str) -> None:
        async def resume(process: "Process") -> None:
            self._world.witness.wire.asked_for(self._world.witness.rows[name])
            await process.administration.resume(Selection(names=[name]))

        self._ask(name, resume)

    def _ask_lost(self) -> None:
        """`refresher refresh --lost`, for one client or for all."""
        world = self._world
        client = world.chance.choice([*world.clients, None])

        async def ask(process: "Process") -> None:
            with world.witness.refusals.order(client, world.witness.rows):
                await process.vault.hastening.ask_lost(client=client)
            process.scheduler.wake()

        self._ask("refresh --lost", ask)

    def _look_after_static(self, row: Row) -> None:
        """Make a new token where the old one has ended; the last one never ends."""
        world = self._world
        if row.state == GrantState.FRESH and not (world.chance.is_calm and row.expires_at):
            return
        self._made += 1
        token = Secret(f"static-{self._made}")
        expires_at = None if world.chance.is_calm else world.now() + STATIC_FOR * world.pace

        async def set_token(process: "Process") -> None:
            await process.administration.set_token(
                row.name, token, expires_at=expires_at, token_type="Bearer"
            )
            world.chance.seen["static tokens set"] += 1

        self._ask(row.name, set_token)

    def _ask(self, name: str, work: Callable[["Process"], Awaitable[None]]) -> None:
        for process in self._world.processes:
            if process.is_running:
                process.ask(name, work)
