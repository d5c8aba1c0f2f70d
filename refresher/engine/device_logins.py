"""Logins by a code that a person types on another machine (RFC 8628).

For a machine without a browser: the command shows the code and asks here, again and again,
whether somebody has consented. The device code stays in the vault, and so does the pace of the
polls: whichever process is asked goes on with it, one at a time.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import anyio

from refresher.acting import acting, who
from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.failed_logins import explained
from refresher.domain.logins import AwaitedConsent, Consent, Login, Stage
from refresher.domain.outcomes import Outcome
from refresher.domain.secret import Secret
from refresher.engine.first_tokens import Authorized, FirstTokens, Targets, asked_client
from refresher.errors import AuthorizationFailed
from refresher.oauth import device_authorization
from refresher.oauth.device_authorization import DeviceAuthorization, next_interval
from refresher.oauth.patience import Patience
from refresher.vault.vault import Vault

POLL_DEADLINE = 30.0
"""Seconds one poll may take: its answer may hold the tokens."""

ASKING = POLL_DEADLINE + 15.0
"""Seconds for which nobody else asks, connecting included; a process that died leaves that."""

Begin = Callable[[Client, tuple[str, ...]], Awaitable[DeviceAuthorization]]
"""Has the server of a client make a device code for a scope."""


class DeviceEndpoint(Protocol):
    """Asks what became of a device code; never raises for what network or server do."""

    async def poll(self, client: Client, code: Secret, *, patience: Patience) -> Outcome:
        """POST one device_code grant (RFC 8628 3.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceBegun:
    """A login that was begun just now, and what a person is to type."""

    id: str
    client: Client
    asked: DeviceAuthorization


class DeviceLogins:
    """The logins under way, from the device code to the tokens in the vault."""

    def __init__(
        self,
        *,
        vault: Vault,
        endpoint: DeviceEndpoint,
        begin: Begin,
        clients: Mapping[str, Client],
        targets: Targets,
        first_tokens: FirstTokens,
        clock: Clock,
    ) -> None:
        self._vault = vault
        self._endpoint = endpoint
        self._begin = begin
        self._clients = clients
        self._targets = targets
        self._first_tokens = first_tokens
        self._clock = clock

    async def begin(self, name: str, *, client_name: str | None = None) -> DeviceBegun:
        """Start a login for the grant NAME, which is made if it is unknown.

        Args:
            client_name: of the grant that the login will make, if it is not known yet.

        Raises:
            AuthorizationFailed: the grant or its client cannot be logged in.
        """
        target = await self._targets.find(name, client_name=client_name)
        client = target.client
        asked = await self._begin(client, target.scope)
        await self._targets.add(target)
        now = self._clock.now()
        login = Login(
            id=secrets.token_urlsafe(16),
            name=name,
            client=client.name,
            begun_at=now,
            ends_at=now + asked.expires_in,
            client_id=client.client_id,
            token_endpoint=client.endpoints.token,
            by=who(),
            awaited=AwaitedConsent(
                device_code=asked.device_code,
                interval=asked.interval,
                next_poll_at=now + asked.interval,
            ),
        )
        await self._vault.logins.add(login)
        return DeviceBegun(id=login.id, client=client, asked=asked)

    async def poll(self, login_id: str) -> Authorized | float:
        """Ask the server once, if its interval has passed since the last time.

        Returns:
            Seconds to wait before the next call, while nobody has consented.

        Raises:
            AuthorizationFailed: says what went wrong and what to do.
        """
        login, now = await self._vault.logins.find(login_id), self._clock.now()
        if login is None:
            raise AuthorizationFailed("this login is not known any more: start it again")
        if login.stage is Stage.DONE:
            return await self._first_tokens.of_done(login)
        if now >= login.ends_at:
            await self._vault.logins.forget(login_id)
            raise AuthorizationFailed(
                "the code has expired before anybody consented: start the login again"
            )
        awaited, client = login.awaited, asked_client(self._clients, login)
        if not isinstance(awaited, AwaitedConsent):
            raise AuthorizationFailed("this login is by no device code")
        # No wait is longer, unless a clock ahead has written it.
        wait = min(awaited.next_poll_at - now, awaited.interval + ASKING)
        if wait > 0:
            return wait
        await self._vault.prove_writable()
        # Nobody else asks meanwhile; a call that comes is told to wait for this one.
        if not await self._vault.logins.begin_poll(login, self._clock.now() + ASKING):
            return awaited.interval
        with acting(login.by), anyio.CancelScope(shield=True):
            done = await self._first_tokens.ask(
                login.name,
                client,
                lambda: self._ask(client, awaited.device_code),
                extras={},
                consent=Consent(login.id),
            )
            interval = None
            if not isinstance(done, Authorized):
                interval = next_interval(done, awaited.interval)
                if interval is None:
                    await self._vault.logins.forget(login_id)
                else:
                    next_at = self._clock.now() + interval
                    await self._vault.logins.poll_again(login_id, interval, next_at)
        if isinstance(done, Authorized):
            return done
        if interval is None:
            told = device_authorization.explained(done) or explained(done, client)
            raise AuthorizationFailed(told)
        return interval

    async def _ask(self, client: Client, code: Secret) -> Outcome:
        return await self._endpoint.poll(client, code, patience=Patience(POLL_DEADLINE))
