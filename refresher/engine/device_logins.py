"""Logins by a code that a person types on another machine (RFC 8628).

For a machine without a browser: the command shows the code and asks here, again and again,
whether somebody has consented. The device code stays here, and so does the pace of the polls.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import anyio

from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.failed_logins import explained
from refresher.domain.outcomes import Outcome
from refresher.domain.secret import Secret
from refresher.engine.first_tokens import Authorized, FirstTokens, Targets
from refresher.errors import AuthorizationFailed
from refresher.oauth import device_authorization
from refresher.oauth.device_authorization import DeviceAuthorization, next_interval
from refresher.oauth.patience import Patience

LOGINS_OPEN = 100
"""Logins that may be under way at once; the oldest gives way."""

POLL_DEADLINE = 30.0
"""Seconds one poll may take: its answer may hold the tokens."""

Begin = Callable[[Client, tuple[str, ...]], Awaitable[DeviceAuthorization]]
"""Has the server of a client make a device code for a scope."""


class DeviceEndpoint(Protocol):
    """Asks what became of a device code; never raises for what network or server do."""

    async def poll(self, client: Client, code: Secret, *, patience: Patience) -> Outcome:
        """POST one device_code grant (RFC 8628 3.4)."""


@dataclass(slots=True, kw_only=True)
class DeviceLogin:
    """A login under way; its instants are of elapsed time."""

    id: str
    name: str
    client: Client
    asked: DeviceAuthorization
    ends_at: float
    interval: float
    next_poll_at: float


class DeviceLogins:
    """The logins under way, from the device code to the tokens in the vault."""

    def __init__(
        self,
        *,
        endpoint: DeviceEndpoint,
        begin: Begin,
        targets: Targets,
        first_tokens: FirstTokens,
        clock: Clock,
    ) -> None:
        self._endpoint = endpoint
        self._begin = begin
        self._targets = targets
        self._first_tokens = first_tokens
        self._clock = clock
        self._open: dict[str, DeviceLogin] = {}

    async def begin(self, name: str, *, client_name: str | None = None) -> DeviceLogin:
        """Start a login for the grant NAME, which is made if it is unknown.

        Args:
            client_name: of the grant that the login will make, if it is not known yet.

        Raises:
            AuthorizationFailed: the grant or its client cannot be logged in.
        """
        target = await self._targets.find(name, client_name=client_name)
        asked = await self._begin(target.client, target.scope)
        await self._targets.add(target)
        now = self._clock.monotonic()
        login = DeviceLogin(
            id=secrets.token_urlsafe(16),
            name=name,
            client=target.client,
            asked=asked,
            ends_at=now + asked.expires_in,
            interval=asked.interval,
            next_poll_at=now + asked.interval,
        )
        while len(self._open) >= LOGINS_OPEN:
            del self._open[next(iter(self._open))]
        self._open[login.id] = login
        return login

    async def poll(self, login_id: str) -> Authorized | float:
        """Ask the server once, if its interval has passed since the last time.

        Returns:
            Seconds to wait before the next call, while nobody has consented.

        Raises:
            AuthorizationFailed: says what went wrong and what to do.
        """
        login, now = self._open.get(login_id), self._clock.monotonic()
        if login is None:
            raise AuthorizationFailed("this login is not known any more: start it again")
        if now >= login.ends_at:
            del self._open[login_id]
            raise AuthorizationFailed(
                "the code has expired before anybody consented: start the login again"
            )
        if now < login.next_poll_at:
            return login.next_poll_at - now
        # Nobody else asks meanwhile; a call that comes is told to wait for this one.
        login.next_poll_at = now + POLL_DEADLINE
        with anyio.CancelScope(shield=True):
            done = await self._first_tokens.ask(
                login.name, login.client, lambda: self._ask(login), extras={}, redirect_uri=None
            )
        if isinstance(done, Authorized):
            self._open.pop(login_id, None)
            return done
        interval = next_interval(done, login.interval)
        if interval is None:
            self._open.pop(login_id, None)
            told = device_authorization.explained(done) or explained(done, login.client)
            raise AuthorizationFailed(told)
        login.interval = interval
        login.next_poll_at = self._clock.monotonic() + interval
        return interval

    async def _ask(self, login: DeviceLogin) -> Outcome:
        code, patience = login.asked.device_code, Patience(POLL_DEADLINE)
        return await self._endpoint.poll(login.client, code, patience=patience)
