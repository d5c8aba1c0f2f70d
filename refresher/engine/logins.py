"""Logins: a person's consent becomes the first tokens of a grant.

The daemon, not the command, says what can be logged in, builds the authorization request,
checks the callback and redeems the code, so that neither PKCE verifier nor client secret
leaves it.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import anyio

from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.failed_logins import explained
from refresher.domain.outcomes import Outcome
from refresher.domain.secret import Secret
from refresher.engine.durability import Durability
from refresher.engine.first_tokens import Authorized, FirstTokens, Targets
from refresher.engine.refresh import LearnEnd, learns_nothing
from refresher.errors import AuthorizationFailed
from refresher.oauth import authorization
from refresher.oauth.authorization import AuthorizationRequest, Callback, is_answer
from refresher.oauth.patience import Patience
from refresher.vault.vault import Vault

LOGIN_MINUTES = 15
"""How long a login may take between its authorization URL and its code."""

LOGINS_OPEN = 100
"""Logins that may be under way at once; the oldest gives way."""

CODE_DEADLINE = 30.0
"""Seconds the exchange of a code may take; codes live a minute or more."""


class CodeEndpoint(Protocol):
    """Redeems an authorization code; never raises for what network or server do."""

    async def redeem(
        self,
        client: Client,
        code: Secret,
        *,
        redirect_uri: str,
        code_verifier: Secret | None,
        patience: Patience,
    ) -> Outcome:
        """POST one authorization_code grant (RFC 6749 4.1.3)."""


@dataclass(frozen=True, slots=True)
class Login:
    """A login under way."""

    id: str
    name: str
    client: Client
    request: AuthorizationRequest
    begun_at: float


class Logins:
    """The logins under way, from the authorization URL to the tokens in the vault."""

    def __init__(
        self,
        *,
        vault: Vault,
        endpoint: CodeEndpoint,
        ready: Callable[[Client], Awaitable[Client]],
        push: Callable[[Client, AuthorizationRequest], Awaitable[AuthorizationRequest]],
        clients: Mapping[str, Client],
        durability: Durability,
        publish: Callable[[str], None],
        wake: Callable[[], None],
        clock: Clock,
        learn_end: LearnEnd = learns_nothing,
    ) -> None:
        def changed(name: str) -> None:
            publish(name)
            wake()

        self._endpoint = endpoint
        self._push = push
        self._clients = clients
        self._clock = clock
        self.targets = Targets(
            vault=vault, clients=clients, ready=ready, changed=changed, clock=clock
        )
        """What can be logged in."""
        self.first_tokens = FirstTokens(
            vault=vault,
            durability=durability,
            changed=changed,
            clock=clock,
            learn_end=learn_end,
        )
        """Where every login ends, whatever brought its code."""
        self._open: dict[str, Login] = {}

    async def begin(
        self, name: str, *, redirect_uri: str | None = None, client_name: str | None = None
    ) -> Login:
        """Start a login for the grant NAME, which is made if it is unknown.

        Args:
            redirect_uri: where the answer is awaited: as ``target`` gives it, with the port that
                is listened on.
            client_name: as for ``target``.

        Raises:
            AuthorizationFailed: the grant or its client cannot be logged in.
        """
        target = await self.targets.find(name, client_name=client_name)
        client = target.client
        request = authorization.begin(
            client,
            redirect_uri=target.redirect_uri(redirect_uri),
            scope=target.scope,
            other_issuers=self._other_issuers(client),
        )
        if client.quirks.require_pushed_authorization_requests:
            request = await self._push(client, request)
        login = Login(
            id=secrets.token_urlsafe(16),
            name=name,
            client=client,
            request=request,
            begun_at=self._clock.now(),
        )
        await self.targets.add(target)
        while len(self._open) >= LOGINS_OPEN:
            del self._open[next(iter(self._open))]
        self._open[login.id] = login
        return login

    async def finish(self, login_id: str, pasted: str) -> Authorized:
        """Redeem the code in PASTED, the redirected URL or the bare code, and store the tokens.

        Raises:
            AuthorizationFailed: says what went wrong and what to do.
        """
        login = self._open.get(login_id)
        if login is None or not self._is_open(login):
            raise AuthorizationFailed("this login has timed out: start it again")
        callback = authorization.read_callback(login.request, pasted)
        del self._open[login_id]
        if not callback.names_issuer:
            _refuse_unnamed(login.client)
        redirect_uri = login.request.redirect_uri
        with anyio.CancelScope(shield=True):
            done = await self.first_tokens.ask(
                login.name,
                login.client,
                lambda: self._redeem(login, callback),
                extras=callback.extras,
                redirect_uri=redirect_uri,
            )
        if not isinstance(done, Authorized):
            raise AuthorizationFailed(explained(done, login.client))
        return done

    def find(self, query: str) -> Login | None:
        """The open login that a redirect with QUERY answers, by its state; None for none."""
        found = (each for each in self._open.values() if self._is_open(each))
        return next((one for one in found if is_answer(query, one.request.state)), None)

    def _is_open(self, login: Login) -> bool:
        return self._clock.now() - login.begun_at <= LOGIN_MINUTES * 60

    def _other_issuers(self, client: Client) -> frozenset[str]:
        """The issuers of servers that CLIENT is not registered at."""
        return frozenset(
            other.endpoints.issuer
            for other in self._clients.values()
            if other.endpoints.issuer is not None
            and other.endpoints.authorization != client.endpoints.authorization
        )

    async def _redeem(self, login: Login, callback: Callback) -> Outcome:
        return await self._endpoint.redeem(
            login.client,
            callback.code,
            redirect_uri=login.request.redirect_uri,
            code_verifier=login.request.code_verifier,
            patience=Patience(CODE_DEADLINE),
        )


def _refuse_unnamed(client: Client) -> None:
    """Refuse an answer that does not name its server, where CLIENT's does or may (RFC 9207 2.4).

    A client without an issuer has nothing to compare it with.

    Raises:
        AuthorizationFailed: says what to do.
    """
    endpoints = client.endpoints
    if endpoints.issuer is None or endpoints.promises_issuer is False:
        return
    if endpoints.promises_issuer is None:
        raise AuthorizationFailed(
            f"the metadata of {endpoints.issuer} cannot be read, so nobody knows whether the "
            f"answer lacks its `iss`: `refresher discover {client.name}` says why; then start the "
            "login again"
        )
    raise AuthorizationFailed(
        f"the metadata of {endpoints.issuer} promise that an answer names it (iss), and this one "
        "does not: it comes from another server, or only a part of it was pasted; start the login "
        "again"
    )
