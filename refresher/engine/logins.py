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

from refresher.acting import acting, who
from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.failed_logins import explained
from refresher.domain.logins import AwaitedAnswer, Consent, Login, Stage
from refresher.domain.outcomes import Outcome
from refresher.domain.secret import Secret
from refresher.engine.durability import Durability
from refresher.engine.first_tokens import Authorized, FirstTokens, Targets, asked_client
from refresher.engine.refresh import LearnEnd, learns_nothing
from refresher.errors import AuthorizationFailed
from refresher.oauth import authorization
from refresher.oauth.authorization import AuthorizationRequest, Callback, is_answer, state_in
from refresher.oauth.patience import Patience
from refresher.vault.vault import Vault

LOGIN_MINUTES = 15
"""How long a login may take between its authorization URL and its code."""

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
class Begun:
    """A login that was begun just now, and what a browser is to ask for."""

    id: str
    client: Client
    request: AuthorizationRequest


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

        self._vault = vault
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

    async def begin(
        self, name: str, *, redirect_uri: str | None = None, client_name: str | None = None
    ) -> Begun:
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
        await self.targets.add(target)
        now = self._clock.now()
        login = Login(
            id=secrets.token_urlsafe(16),
            name=name,
            client=client.name,
            begun_at=now,
            ends_at=now + LOGIN_MINUTES * 60,
            client_id=client.client_id,
            token_endpoint=client.endpoints.token,
            by=who(),
            awaited=request.awaited,
        )
        await self._vault.logins.add(login)
        return Begun(login.id, client, request)

    async def finish(self, login_id: str, pasted: str) -> Authorized:
        """Redeem the code in PASTED, the redirected URL or the bare code, and store the tokens.

        It may be asked for again: a login that is done brings its grant, and no second exchange.

        Raises:
            AuthorizationFailed: says what went wrong and what to do.
        """
        login = await self._vault.logins.find(login_id)
        if login is None or self._is_over(login):
            raise AuthorizationFailed("this login has timed out: start it again")
        if login.stage is Stage.DONE:
            return await self.first_tokens.of_done(login)
        awaited = login.awaited
        if not isinstance(awaited, AwaitedAnswer):
            raise AuthorizationFailed(already_answered(login))
        callback = authorization.read_callback(awaited, pasted)
        client = asked_client(self._clients, login)
        if not callback.names_issuer:
            _refuse_unnamed(awaited, client)
        await self._vault.prove_writable()
        with acting(login.by), anyio.CancelScope(shield=True):
            if not await self._vault.logins.take(login_id):
                raise AuthorizationFailed(already_answered(login))
            done = await self.first_tokens.ask(
                login.name,
                client,
                lambda: self._redeem(client, awaited, callback),
                extras=callback.extras,
                consent=Consent(login.id, awaited.redirect_uri),
            )
        if not isinstance(done, Authorized):
            raise AuthorizationFailed(explained(done, client))
        return done

    async def find(self, query: str) -> Login | None:
        """The open login that a redirect with QUERY answers, by its state; None for none."""
        state = state_in(query)
        login = None if state is None else await self._vault.logins.find_by_state(state)
        if login is None or self._is_over(login) or not isinstance(login.awaited, AwaitedAnswer):
            return None
        return login if is_answer(query, login.awaited.state) else None

    def _is_over(self, login: Login) -> bool:
        return self._clock.now() > login.ends_at

    def _other_issuers(self, client: Client) -> frozenset[str]:
        """The issuers of servers that CLIENT is not registered at."""
        return frozenset(
            other.endpoints.issuer
            for other in self._clients.values()
            if other.endpoints.issuer is not None
            and other.endpoints.authorization != client.endpoints.authorization
        )

    async def _redeem(self, client: Client, awaited: AwaitedAnswer, callback: Callback) -> Outcome:
        return await self._endpoint.redeem(
            client,
            callback.code,
            redirect_uri=awaited.redirect_uri,
            code_verifier=awaited.code_verifier,
            patience=Patience(CODE_DEADLINE),
        )


def already_answered(login: Login) -> str:
    """What is said to whoever comes second with an answer to LOGIN."""
    return (
        "this login has been answered already, and a code counts once: "
        f"`refresher status {login.name}` says what came of it; if that is nothing, start the "
        "login again"
    )


def _refuse_unnamed(awaited: AwaitedAnswer, client: Client) -> None:
    """Refuse an answer that does not name its server, where CLIENT's does or may (RFC 9207 2.4).

    A client without an issuer has nothing to compare it with.

    Raises:
        AuthorizationFailed: says what to do.
    """
    if awaited.issuer is None or awaited.promises_issuer is False:
        return
    if awaited.promises_issuer is None:
        raise AuthorizationFailed(
            f"the metadata of {awaited.issuer} cannot be read, so nobody knows whether the "
            f"answer lacks its `iss`: `refresher discover {client.name}` says why; then start the "
            "login again"
        )
    raise AuthorizationFailed(
        f"the metadata of {awaited.issuer} promise that an answer names it (iss), and this one "
        "does not: it comes from another server, or only a part of it was pasted; start the login "
        "again"
    )
