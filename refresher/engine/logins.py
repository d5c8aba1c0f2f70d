"""Logins: a person's consent becomes the first tokens of a grant.

The daemon, not the command, says what can be logged in, builds the authorization request,
checks the callback and redeems the code, so that neither PKCE verifier nor client secret
leaves it.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, assert_never

import anyio

from refresher.clock import Clock, Instant
from refresher.domain.adoption import adopt_authorization
from refresher.domain.clients import Client
from refresher.domain.completion import needs_registering
from refresher.domain.grants import NAME_RULE, Grant, GrantKind, Seed, is_valid_name
from refresher.domain.outcomes import (
    AnswerUnread,
    ClientRejected,
    GrantRejected,
    Misconfigured,
    NotSent,
    Outcome,
    OutcomeUnknown,
    ProofDemanded,
    Refreshed,
    RefreshTokenOnly,
    RequestRejected,
    TokenAnswer,
    TooEarly,
    Transient,
)
from refresher.domain.repairs import proof_demanded, wrong_request
from refresher.domain.secret import Secret
from refresher.engine.announcements import (
    announce,
    announce_seeded,
    announce_tokens_without_refresh,
)
from refresher.engine.durability import Durability
from refresher.engine.instants import attempt_since
from refresher.engine.records import login_record
from refresher.engine.refresh import LearnEnd, learns_nothing
from refresher.errors import AuthorizationFailed, UnknownGrant
from refresher.logs import Event, emit
from refresher.oauth import authorization
from refresher.oauth.answers import with_extras
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a login is for."""

    name: str
    grant: Grant | None
    """None for one that the login will make."""
    client: Client
    redirect_uri: str


@dataclass(frozen=True, slots=True)
class Login:
    """A login under way."""

    id: str
    name: str
    client: Client
    request: AuthorizationRequest
    begun_at: float


@dataclass(frozen=True, slots=True)
class Authorized:
    """What a login came to."""

    grant: Grant
    account_before: str | None
    """The account that had authorized the grant, where another one has done so now."""


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
        self._learn_end = learn_end
        self._vault = vault
        self._endpoint = endpoint
        self._ready = ready
        self._push = push
        self._clients = clients
        self._durability = durability
        self._publish = publish
        self._wake = wake
        self._clock = clock
        self._open: dict[str, Login] = {}

    async def target(
        self, name: str, *, redirect_uri: str | None = None, client_name: str | None = None
    ) -> Target:
        """What a login of the grant NAME would be for, if there can be one.

        Args:
            redirect_uri: None takes the client's first.
            client_name: of the grant that the login will make, if it is not known yet.

        Raises:
            AuthorizationFailed: the grant or its client cannot be logged in; says why.
        """
        grant = await self._vault.find(name)
        if grant is None:
            self._refuse_unknown(name, client_name)
        elif grant.kind is GrantKind.STATIC:
            raise AuthorizationFailed(
                f"grant {name} holds a static token: replace it with `refresher set-token {name}`"
            )
        elif client_name not in {None, grant.client}:
            raise AuthorizationFailed(
                f"grant {name} belongs to client {grant.client}: take another name to authorize "
                f"{client_name}"
            )
        client = find_client(self._clients, client_name if grant is None else grant.client)
        client = await self._ready(client)
        if not client.client_id:
            raise AuthorizationFailed(needs_registering(client))
        if not client.redirect_uris:
            raise AuthorizationFailed(f"client {client.name} has no redirect_uris in the settings")
        chosen = redirect_uri or client.redirect_uris[0]
        if not authorization.is_registered(chosen, client.redirect_uris):
            raise AuthorizationFailed(
                f"{chosen} is not in the redirect_uris of client {client.name}: add it there and "
                "at the provider"
            )
        return Target(name=name, grant=grant, client=client, redirect_uri=chosen)

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
        target = await self.target(name, redirect_uri=redirect_uri, client_name=client_name)
        grant, client = target.grant, target.client
        request = authorization.begin(
            client,
            redirect_uri=target.redirect_uri,
            scope=grant.scope if grant is not None and grant.scope else client.scope,
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
        if grant is None:
            await self._add(name, client)
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
        with anyio.CancelScope(shield=True):
            authorized, answer = await self._redeem(login, callback)
        grant = authorized.grant
        emit(
            Event.GRANT_AUTHORIZED,
            grant=grant.name,
            client=grant.client,
            version=grant.version,
            expires_at=grant.expires_at,
        )
        if authorized.account_before is not None:
            emit(Event.GRANT_ACCOUNT_CHANGED, grant=grant.name, client=grant.client)
        announce_tokens_without_refresh(grant)
        self._changed(grant.name)
        await self._learn_end(login.client, grant, answer)
        return authorized

    def find(self, query: str) -> Login | None:
        """The open login that a redirect with QUERY answers, by its state; None for none."""
        found = (each for each in self._open.values() if self._is_open(each))
        return next((one for one in found if is_answer(query, one.request.state)), None)

    def _is_open(self, login: Login) -> bool:
        return self._clock.now() - login.begun_at <= LOGIN_MINUTES * 60

    def _refuse_unknown(self, name: str, client_name: str | None) -> None:
        """Raise unless a login can make the grant NAME for the client CLIENT_NAME."""
        if client_name is None:
            raise AuthorizationFailed(
                f"there is no grant named {name}: name its client with --client, one of "
                f"{', '.join(sorted(self._clients)) or 'none in the settings'}"
            )
        if not is_valid_name(name):
            raise AuthorizationFailed(f"the grant's name is outside the alphabet ({NAME_RULE})")

    def _other_issuers(self, client: Client) -> frozenset[str]:
        """The issuers of servers that CLIENT is not registered at."""
        return frozenset(
            other.endpoints.issuer
            for other in self._clients.values()
            if other.endpoints.issuer is not None
            and other.endpoints.authorization != client.endpoints.authorization
        )

    async def _redeem(self, login: Login, callback: Callback) -> tuple[Authorized, TokenAnswer]:
        """Exchange the code; the vault has proven writable, since the code is single-use too."""
        await self._vault.prove_writable()
        sent = Instant.of(self._clock)
        with self._durability.exchange():
            outcome = await self._endpoint.redeem(
                login.client,
                callback.code,
                redirect_uri=login.request.redirect_uri,
                code_verifier=login.request.code_verifier,
                patience=Patience(CODE_DEADLINE),
            )
            if not isinstance(outcome, Refreshed):
                raise AuthorizationFailed(_explained(outcome, login.client))
            grant = await self._vault.find(login.name)
        if grant is None:
            raise UnknownGrant(login.name)
        if grant.client != login.client.name:
            raise AuthorizationFailed(
                f"grant {login.name} was given to client {grant.client} meanwhile: "
                "start the login again"
            )
        attempt, set_back = attempt_since(sent, self._clock), self._vault.set_back
        answer = with_extras(outcome.answer, callback.extras)
        change = adopt_authorization(grant, login.client, answer, attempt)
        for warning in change.warnings:
            emit(Event.ANSWER_DOUBTED, grant=grant.name, client=grant.client, reason=warning)
        redirect_uri = login.request.redirect_uri

        async def write() -> Grant:
            moved = change.moved(self._vault.set_back - set_back)
            return await self._vault.authorize(login.name, moved, redirect_uri=redirect_uri)

        authorized = await self._durability.until_written(
            write, grant=grant, record=login_record(grant, change, redirect_uri)
        )
        announce(grant, authorized)
        is_other = authorized.is_of_another_account(grant)
        return Authorized(authorized, grant.authorized_by if is_other else None), answer

    async def _add(self, name: str, client: Client) -> None:
        seed = Seed(name=name, client=client.name)
        draw = self._clock.draw()
        announce_seeded(await self._vault.apply_seed(seed, draw, origin="runtime"), origin="login")
        self._changed(name)

    def _changed(self, name: str) -> None:
        self._publish(name)
        self._wake()


def find_client(clients: Mapping[str, Client], name: str | None) -> Client:
    """The client NAME of the settings.

    Raises:
        AuthorizationFailed: there is none; names those there are.
    """
    if name is None or name not in clients:
        raise AuthorizationFailed(
            f"there is no client {name} in the settings"
            + (f": there are {', '.join(sorted(clients))}" if clients else "")
        )
    return clients[name]


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


def _explained(outcome: Outcome, client: Client) -> str:
    """Why a code brought no tokens, and what to do about it."""
    match outcome:
        case GrantRejected(error=error):
            # oidc-provider says invalid_grant and no more for a missing proof.
            proof = f"; or {proof_demanded(client.name)}" if client.endpoints.offers_proof else ""
            return (
                f"the server refused the code ({error}): it may have been used or have expired, "
                f"or the redirect URI differs from the registered one; start the login again{proof}"
            )
        case ClientRejected(error=error):
            return (
                f"the server refused client {client.name} itself ({error}): check client_id, "
                "client_secret and client_authentication"
            )
        case Misconfigured(error=error) | RequestRejected(error=error):
            mend = wrong_request(client.name, error)
            return f"the server refused the request ({error}): {mend}"
        case ProofDemanded():
            return proof_demanded(client.name)
        case NotSent(reason=reason):
            return f"the token endpoint of client {client.name} cannot be reached ({reason})"
        case TooEarly(error=reason) | Transient(reason=reason) | OutcomeUnknown(reason=reason):
            return f"the exchange of the code failed ({reason}): start the login again"
        case AnswerUnread():
            return "a bug kept the server's answer from being read: start the login again"
        case RefreshTokenOnly() | Refreshed():
            return "the server sent no usable access token: start the login again"
        case _:
            assert_never(outcome)
