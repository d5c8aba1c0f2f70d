"""Revoking: an operator's decision, and the requests it takes until the server has obeyed.

The decision is durable before anything is sent. From then on the grant is refreshed no
more, consumers read no token of it, and its tokens lie parked in the vault until its server
has revoked them: at once, or when it is back, and also those that an exchange brings which
was under way. A command tries at once and tells; the daemon goes on.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.grants import Grant
from refresher.domain.quirks import RotationProfile
from refresher.domain.reasons import Reason
from refresher.domain.secret import Secret
from refresher.engine.first_tokens import find_client
from refresher.engine.supervision import report_bug
from refresher.errors import AuthorizationFailed, UnknownGrant, VaultUnavailable
from refresher.logs import Event, emit
from refresher.oauth.revocation import RevocationResult, by_access_token, is_revocable
from refresher.vault.revocations import LONGEST_WAIT, Parked, ParkedTokens
from refresher.vault.vault import Vault

DEADLINE = 20.0
"""Seconds one request to revoke may take once it has left."""

FIRST_WAIT = 60.0
"""Seconds until the second try; each one after it waits twice as long, up to LONGEST_WAIT."""

INTERVAL = 1.0
"""Seconds between looks at what is due, and between two requests of one client."""

LOOK = 0.1
"""Seconds between a command's looks at an exchange that it waits for."""

SWEEP = 3_600.0
"""Seconds between two looks for marks that are no longer needed."""

AT_ONCE = 8
"""Clients whose servers are asked at the same time."""


class Revoke(Protocol):
    """Revokes tokens at a client's server; never raises for what network or server do."""

    async def __call__(
        self,
        client: Client,
        *,
        refresh_token: Secret | None,
        access_token: Secret | None,
        deadline: float,
    ) -> RevocationResult:
        """Ask for the revocation (RFC 7009) within DEADLINE seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """What a command to revoke has come to."""

    grant: Grant
    parked: tuple[Parked, ...]
    """What its server has not revoked yet."""
    result: RevocationResult | None
    """Of the last request of the command that revoked nothing; None where there was none."""
    is_out: bool
    """An exchange is still under way: what it brings will be parked, and revoked too."""
    is_unresolved: bool
    """An earlier exchange was never answered: the server may have issued a refresh token
    that nobody has received, and that nobody can name to it."""


class Revoking:
    """Ends authorizations and works on what is parked of them."""

    def __init__(
        self,
        *,
        vault: Vault,
        revoke: Revoke,
        clients: Mapping[str, Client],
        publish: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self._vault = vault
        self._revoke = revoke
        self._clients = clients
        self._publish = publish
        self._clock = clock
        self._under_way: set[int] = set()
        """Of what is parked, that which a request is out for."""
        self._busy: set[str] = set()
        """Clients whose server the daemon is asking, or has just asked."""
        self._stranded: set[str] = set()
        """Clients gone from the settings that were told."""
        self._next_sweep = 0.0

    async def parked(self) -> list[Parked]:
        """Everything that has still to be revoked, the oldest first."""
        return await self._vault.revocations.parked()

    async def revoke(self, name: str) -> Revoked:
        """End the authorization of NAME, and try at once to have its tokens revoked.

        An exchange of it that is out is waited for, with the requests no longer than an
        exchange may take. Said again, it tries again what is parked.

        Raises:
            UnknownGrant: there is none of this name.
            AuthorizationFailed: its server cannot revoke it; nothing has changed.
            GrantConflict: another grant holds the same refresh token; nothing has changed.
            VaultUnavailable: the vault refuses, and nothing was sent.
        """
        grant = await self._vault.find(name)
        if grant is None:
            raise UnknownGrant(name)
        client = self._able(grant)
        ended = await self._vault.revocations.end(
            name,
            lambda refresh_token, access_token: is_revocable(
                _asking(client, refresh_token), refresh_token, access_token
            ),
        )
        if ended is not None:
            grant = ended.after
            emit(Event.GRANT_REVOKED, grant=name, client=grant.client)
            self._publish(name)
        elif grant.reason != Reason.REVOKED_HERE:
            raise AuthorizationFailed(
                f"grant {name} was not revoked ({RevocationResult.NO_TOKEN}): nothing has "
                f"changed; `refresher remove {name}` forgets it here alone"
            )
        result = None
        with anyio.move_on_after(max(client.quirks.response_timeout, DEADLINE)):
            # The decision is durable: what the vault refuses from here on, the daemon does.
            with suppress(VaultUnavailable):
                result = await self._carry_out(grant)
        return Revoked(
            grant=grant,
            parked=tuple(await self._vault.revocations.parked(grant.uid)),
            result=result,
            is_out=await self._vault.is_out(grant),
            is_unresolved=ended is not None
            and ended.is_unresolved
            and client.quirks.rotation.profile is not RotationProfile.NONE,
        )

    async def run(self) -> None:
        """Work on what is parked, for ever: one request of a client at a time."""
        async with anyio.create_task_group() as tasks:
            while True:
                with suppress(VaultUnavailable):  # whoever refreshes tells it; look again
                    await self._turn(tasks)
                await anyio.sleep(INTERVAL)

    def _able(self, grant: Grant) -> Client:
        """The client to revoke GRANT with."""
        if grant.client is None:
            raise AuthorizationFailed(
                f"grant {grant.name} has no client to revoke it with: delete its token at the "
                f"provider, then `refresher remove {grant.name}`"
            )
        if grant.kind.renews_itself:
            raise AuthorizationFailed(
                f"grant {grant.name} was not revoked: the settings hold what renews it; take it "
                f"out of them, then `refresher remove {grant.name}`"
            )
        client = find_client(self._clients, grant.client)
        if client.endpoints.revocation is None:
            raise AuthorizationFailed(
                f"grant {grant.name} was not revoked ({RevocationResult.UNSUPPORTED}): nothing "
                f"has changed; if the provider of client {client.name} has a revocation endpoint, "
                "name it as revocation_endpoint, else end the authorization on its pages; "
                f"`refresher remove {grant.name}` forgets it here alone"
            )
        return client

    async def _carry_out(self, grant: Grant) -> RevocationResult | None:
        """Ask once for everything parked of GRANT, also what an exchange brings meanwhile.

        Returns:
            The result of the last request that revoked nothing, if any did not.
        """
        failed, tried = None, set[int]()
        while True:
            # Asked before the rows are read: what an exchange brought is among them then.
            is_out = await self._vault.is_out(grant)
            waiting = await self._vault.revocations.parked(grant.uid)
            for parked in waiting:
                if parked.id not in tried | self._under_way:
                    tried.add(parked.id)
                    result = await self._try(parked)
                    if result not in {None, RevocationResult.REVOKED}:
                        failed = result
            if not is_out and self._under_way.isdisjoint(parked.id for parked in waiting):
                return failed
            await anyio.sleep(LOOK)

    async def _turn(self, tasks: TaskGroup) -> None:
        now = self._clock.now()
        waiting = await self._vault.revocations.waiting()
        if now >= self._next_sweep or any(ends_at <= now for _, ends_at in waiting.values()):
            self._next_sweep = now + SWEEP
            for parked in await self._vault.revocations.drop_ended():
                _tell_dropped(parked, "its time is over")
        await self._tell_stranded(waiting.keys())
        while len(self._busy) < AT_ONCE:
            free = {client for client, (due_at, _) in waiting.items() if _may_be_due(due_at, now)}
            free &= self._clients.keys() - self._busy
            if not free:
                return
            due = await self._vault.revocations.due(free)
            if due is None or due.id in self._under_way:
                return
            self._busy.add(due.client)
            tasks.start_soon(self._work, due)

    async def _work(self, parked: Parked) -> None:
        try:
            with suppress(VaultUnavailable):  # it is due again when the vault takes it
                await self._try(parked)
        except Exception as error:  # noqa: BLE001  supervision: one bug stops no other client
            report_bug("revocation", error, grant=parked.name)
        await anyio.sleep(INTERVAL)
        self._busy.discard(parked.client)

    async def _tell_stranded(self, waiting: Collection[str]) -> None:
        """Say once of a client that its tokens wait for it to be in the settings again."""
        self._stranded -= self._clients.keys()
        if not set(waiting) - self._clients.keys() - self._stranded:
            return
        for parked in await self.parked():
            if parked.client in self._clients or parked.client in self._stranded:
                continue
            self._stranded.add(parked.client)
            emit(
                Event.REVOCATION_STRANDED,
                grant=parked.name,
                client=parked.client,
                ends_at=parked.ends_at,
                repair=f"put client {parked.client} back into the settings, or {_BY_HAND}",
            )

    async def _try(self, parked: Parked) -> RevocationResult | None:
        """Ask once for the revocation of PARKED; None where nothing was sent."""
        client = self._clients.get(parked.client)
        if client is None or self._vault.files.vanished:
            return None
        self._under_way.add(parked.id)
        try:
            due_at = self._clock.now() + _wait(parked.attempts, self._clock.draw())
            tokens = await self._taken(parked, due_at)
            if tokens is None:
                return None
            result = await self._revoke(
                _asking(client, tokens.refresh_token),
                refresh_token=tokens.refresh_token,
                access_token=tokens.access_token,
                deadline=DEADLINE,
            )
            if result is RevocationResult.REVOKED:
                with anyio.CancelScope(shield=True):
                    await self._vault.revocations.settle(parked)
                emit(Event.REVOCATION_DONE, grant=parked.name, client=parked.client)
            elif parked.attempts == 0:
                _tell_parked(parked, result.value, due_at)
            return result
        finally:
            self._under_way.discard(parked.id)

    async def _taken(self, parked: Parked, due_at: float) -> ParkedTokens | None:
        """The tokens of PARKED for one try; None where nothing is to be sent."""
        tokens = await self._vault.revocations.take(parked, due_at)
        if tokens is None:
            return None
        if tokens.unopened is not None:
            if parked.attempts == 0:
                _tell_parked(parked, tokens.unopened, due_at)
            return None
        if tokens.owner is not None:
            await self._vault.revocations.settle(parked)
            _tell_dropped(parked, f"grant {tokens.owner} holds the same refresh token now")
            return None
        return tokens


_BY_HAND = "end the authorization on the provider's own pages"


def _asking(client: Client, refresh_token: Secret | None) -> Client:
    """CLIENT as it asks for what there is to revoke."""
    return client if refresh_token is not None else by_access_token(client)


def _may_be_due(due_at: float, now: float) -> bool:
    """Whether what is due at DUE_AT is due now, or was dated by a clock that was ahead."""
    return not now < due_at <= now + 2 * LONGEST_WAIT


def _wait(attempts: int, draw: float) -> float:
    """Seconds from the try after ATTEMPTS others to the next, a quarter up or down by chance."""
    wait = FIRST_WAIT * 2.0 ** min(attempts, 16)
    return float(min(wait, LONGEST_WAIT) * (0.75 + draw / 2))


def _tell_parked(parked: Parked, reason: str, due_at: float) -> None:
    emit(
        Event.REVOCATION_PARKED,
        grant=parked.name,
        client=parked.client,
        reason=reason,
        next_attempt_at=due_at,
        ends_at=parked.ends_at,
    )


def _tell_dropped(parked: Parked, reason: str) -> None:
    emit(
        Event.REVOCATION_DROPPED,
        grant=parked.name,
        client=parked.client,
        reason=reason,
        attempts=parked.attempts,
        repair=_BY_HAND,
    )
