"""Logins: a person's consent becomes the first tokens of a grant.

The daemon, not the command, builds the authorization request, checks the callback and
redeems the code, so that neither state nor PKCE verifier nor client secret leaves it.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, assert_never

import anyio

from refresher.clock import Clock
from refresher.domain.adoption import adopt_authorization
from refresher.domain.clients import Client
from refresher.domain.grants import Grant, GrantKind, Seed
from refresher.domain.outcomes import (
    AnswerUnread,
    ClientRejected,
    GrantRejected,
    Misconfigured,
    NotSent,
    Outcome,
    OutcomeUnknown,
    Refreshed,
    RefreshTokenOnly,
    RequestRejected,
    TooEarly,
    Transient,
)
from refresher.domain.secret import Secret
from refresher.engine.announcements import announce_seeded, announce_tokens_without_refresh
from refresher.engine.durability import Durability
from refresher.engine.instants import Instant, attempt_since
from refresher.engine.records import login_record
from refresher.errors import AuthorizationFailed, UnknownGrant
from refresher.logs import Event, emit
from refresher.oauth import authorization
from refresher.oauth.authorization import AuthorizationRequest
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
        clients: Mapping[str, Client],
        durability: Durability,
        publish: Callable[[str], None],
        wake: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._vault = vault
        self._endpoint = endpoint
        self._clients = clients
        self._durability = durability
        self._publish = publish
        self._wake = wake
        self._clock = clock
        self._open: dict[str, Login] = {}

    async def begin(
        self, name: str, *, redirect_uri: str | None = None, client_name: str | None = None
    ) -> Login:
        """Start a login for the grant NAME, made if CLIENT_NAME is given and it is unknown.

        Args:
            redirect_uri: None takes the client's first.

        Raises:
            UnknownGrant: NAME is unknown and no client was named.
            AuthorizationFailed: the grant or its client cannot be logged in.
        """
        grant = await self._vault.find(name)
        if grant is None and client_name is None:
            raise UnknownGrant(name)
        if grant is not None and grant.kind is GrantKind.STATIC:
            raise AuthorizationFailed(
                f"grant {name} holds a static token: replace it with `refresher set-token {name}`"
            )
        client = find_client(self._clients, grant.client if grant is not None else client_name)
        chosen = redirect_uri or next(iter(client.redirect_uris), None)
        if chosen is None:
            raise AuthorizationFailed(f"client {client.name} has no redirect_uris in the settings")
        scope = grant.scope if grant is not None and grant.scope else client.scope
        login = Login(
            id=secrets.token_urlsafe(16),
            name=name,
            client=client,
            request=authorization.begin(client, redirect_uri=chosen, scope=scope),
            begun_at=self._clock.now(),
        )
        if grant is None:
            await self._add(name, client)
        while len(self._open) >= LOGINS_OPEN:
            del self._open[next(iter(self._open))]
        self._open[login.id] = login
        return login

    async def finish(self, login_id: str, pasted: str) -> Grant:
        """Redeem the code in PASTED, the redirected URL or the bare code, and store the tokens.

        Raises:
            AuthorizationFailed: says what went wrong and what to do.
        """
        login = self._open.get(login_id)
        if login is None or self._clock.now() - login.begun_at > LOGIN_MINUTES * 60:
            raise AuthorizationFailed("this login has timed out: start it again")
        code = authorization.read_callback(login.request, pasted)
        del self._open[login_id]
        with anyio.CancelScope(shield=True):
            grant = await self._redeem(login, code)
        emit(
            Event.GRANT_AUTHORIZED,
            grant=grant.name,
            client=grant.client,
            version=grant.version,
            expires_at=grant.expires_at,
        )
        announce_tokens_without_refresh(grant)
        self._changed(grant.name)
        return grant

    async def _redeem(self, login: Login, code: Secret) -> Grant:
        """Exchange the code; the vault has proven writable, since the code is single-use too."""
        await self._vault.prove_writable(self._clock.now())
        sent = Instant.of(self._clock)
        with self._durability.exchange():
            outcome = await self._endpoint.redeem(
                login.client,
                code,
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
        change = adopt_authorization(grant, login.client, outcome.answer, attempt)
        for warning in change.warnings:
            emit(Event.ANSWER_DOUBTED, grant=grant.name, client=grant.client, reason=warning)
        redirect_uri = login.request.redirect_uri

        async def write() -> Grant:
            now = self._clock.now()
            moved = change.moved(self._vault.set_back - set_back)
            return await self._vault.authorize(login.name, moved, now, redirect_uri=redirect_uri)

        return await self._durability.until_written(
            write, grant=grant, record=login_record(grant, change, redirect_uri)
        )

    async def _add(self, name: str, client: Client) -> None:
        seed = Seed(name=name, client=client.name)
        now, draw = self._clock.now(), self._clock.draw()
        announce_seeded(
            await self._vault.apply_seed(seed, now, draw, origin="runtime"), origin="login"
        )
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


def _explained(outcome: Outcome, client: Client) -> str:
    """Why a code brought no tokens, and what to do about it."""
    match outcome:
        case GrantRejected(error=error):
            return (
                f"the server refused the code ({error}): it may have been used or have expired, "
                "or the redirect URI differs from the registered one; start the login again"
            )
        case ClientRejected(error=error):
            return (
                f"the server refused client {client.name} itself ({error}): check client_id, "
                "client_secret and client_authentication"
            )
        case Misconfigured(error=error) | RequestRejected(error=error):
            return f"the server refused the request ({error}): check client {client.name}"
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
