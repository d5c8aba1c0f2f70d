"""What people and the settings ask for: logins, imports, removals, refreshes, seeds.

The same operations serve a running daemon, through its control socket, and a command
that works alone on the vault.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

import anyio

from refresher.clock import Clock
from refresher.domain.adoption import Attempt, adopt_authorization
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
from refresher.engine.announcements import announce_tokens_without_refresh
from refresher.engine.durability import Durability
from refresher.engine.records import login_record
from refresher.errors import (
    AuthorizationFailed,
    DuplicateRefreshToken,
    GrantConflict,
    GrantSetAside,
    UnknownGrant,
)
from refresher.logs import Event, emit
from refresher.oauth.authorization import AuthorizationRequest, begin, read_callback
from refresher.oauth.patience import Patience
from refresher.oauth.revocation import RevocationResult
from refresher.vault.seeds import Seeded, SeedResult
from refresher.vault.vault import Vault

LOGIN_MINUTES = 15
"""How long a login may take between its authorization URL and its code."""

LOGINS_OPEN = 100
"""Logins that may be under way at once; the oldest gives way."""

REVOCATION_DEADLINE = 20.0
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


@dataclass(frozen=True, slots=True)
class Login:
    """A login under way."""

    id: str
    name: str
    client: Client
    request: AuthorizationRequest
    begun_at: float


class Administration:
    """Changes grants on request; every change is durable before it is acknowledged."""

    def __init__(
        self,
        *,
        vault: Vault,
        endpoint: CodeEndpoint,
        revoke: Revoke,
        clients: Mapping[str, Client],
        durability: Durability,
        publish: Callable[[str], None],
        wake: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._vault = vault
        self._endpoint = endpoint
        self._revoke = revoke
        self._clients = clients
        self._durability = durability
        self._publish = publish
        self._wake = wake
        self._clock = clock
        self._logins: dict[str, Login] = {}

    async def grants(self) -> list[Grant]:
        """Every grant, by name."""
        return await self._vault.grants()

    async def refresh(self, name: str) -> Grant | None:
        """Make NAME due now; None when it cannot be refreshed (static, or it needs a person).

        Raises:
            UnknownGrant: there is none of this name.
        """
        return await self.request_refresh(name, version=None, reason="operator", limited=False)

    async def request_refresh(
        self, name: str, *, version: int | None, reason: str, limited: bool = True
    ) -> Grant | None:
        """Make NAME due now because somebody asks, VERSION still being its current one.

        Raises:
            UnknownGrant: there is none of this name.
        """
        now = self._clock.now()
        grant = await self._vault.request_refresh(name, now, version=version, limited=limited)
        event = Event.REQUEST_IGNORED if grant is None else Event.REQUEST_ACCEPTED
        emit(event, grant=name, version=version, reason=reason)
        if grant is not None:
            self._changed([name])
        return grant

    async def remove(self, name: str) -> None:
        """Forget NAME and its tokens, here and in Redis.

        Raises:
            UnknownGrant: there is none of this name.
        """
        await self._vault.remove(name, self._clock.now())
        emit(Event.GRANT_REMOVED, grant=name)
        self._changed([name])

    async def revoke(self, name: str) -> Grant:
        """Revoke the tokens of NAME at its server, then forget them here and in Redis.

        Raises:
            UnknownGrant: there is none of this name.
            AuthorizationFailed: the server did not revoke; nothing has changed here.
        """
        grant = await self._vault.find(name)
        if grant is None:
            raise UnknownGrant(name)
        if grant.client is None:
            raise AuthorizationFailed(
                f"grant {name} has no client to revoke it with: delete its token at the provider, "
                f"then `refresher remove {name}`"
            )
        client = self._client(grant.client)
        refresh_token, access_token = await self._vault.tokens(name)
        result = await self._revoke(
            client,
            refresh_token=refresh_token,
            access_token=access_token,
            deadline=REVOCATION_DEADLINE,
        )
        if result is not RevocationResult.REVOKED:
            raise AuthorizationFailed(
                f"grant {name} was not revoked ({result}): nothing has changed; "
                f"`refresher remove {name}` forgets it here alone"
            )
        revoked = await self._durability.until_written(
            lambda: self._vault.forget_tokens(name, self._clock.now()), grant=grant
        )
        emit(Event.GRANT_REVOKED, grant=name, client=grant.client)
        self._changed([name])
        return revoked

    async def set_token(
        self, name: str, token: Secret, *, expires_at: float | None, token_type: str
    ) -> Grant:
        """Replace the static token of NAME.

        Raises:
            UnknownGrant, GrantConflict: see ``Vault.set_token``.
        """
        grant = await self._vault.set_token(
            name, token, self._clock.now(), expires_at=expires_at, token_type=token_type
        )
        emit(Event.GRANT_TOKEN_SET, grant=name, version=grant.version, expires_at=expires_at)
        self._changed([name])
        return grant

    async def apply_settings(self, seeds: Sequence[Seed]) -> None:
        """Bring the vault in line with the settings; a seed that cannot be applied is skipped.

        Raises:
            VaultUnavailable: the vault refuses.
        """
        changed = []
        for seed in seeds:
            try:
                seeded = await self._vault.apply_seed(
                    seed, self._clock.now(), self._clock.draw(), origin="settings"
                )
            except (DuplicateRefreshToken, GrantConflict, GrantSetAside) as error:
                emit(Event.GRANT_SKIPPED, grant=seed.name, reason=str(error))
                continue
            self._report(seeded, "settings")
            if seeded.result is not SeedResult.UNCHANGED:
                changed.append(seed.name)
        self._changed(changed)

    async def import_grants(self, seeds: Sequence[Seed], *, replace: bool) -> list[Seeded]:
        """Add SEEDS, all or none.

        Args:
            replace: adopt refresh tokens even where they were adopted before.

        Raises:
            VaultError: one of them cannot be added; then none was.
        """
        for seed in seeds:
            if seed.client is not None and seed.client not in self._clients:
                raise AuthorizationFailed(f"grant {seed.name}: there is no client {seed.client}")
        now, draw = self._clock.now(), self._clock.draw()
        done = await self._vault.apply_seeds(
            seeds, now, draw, origin="runtime", replace_spent=replace
        )
        for seeded in done:
            self._report(seeded, "import")
        self._changed([seed.name for seed in seeds])
        return done

    async def begin_login(
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
        client = self._client(grant.client if grant is not None else client_name)
        chosen = redirect_uri or next(iter(client.redirect_uris), None)
        if chosen is None:
            raise AuthorizationFailed(f"client {client.name} has no redirect_uris in the settings")
        scope = grant.scope if grant is not None and grant.scope else client.scope
        login = Login(
            id=secrets.token_urlsafe(16),
            name=name,
            client=client,
            request=begin(client, redirect_uri=chosen, scope=scope),
            begun_at=self._clock.now(),
        )
        if grant is None:
            await self._add(name, client)
        while len(self._logins) >= LOGINS_OPEN:
            del self._logins[next(iter(self._logins))]
        self._logins[login.id] = login
        return login

    async def finish_login(self, login_id: str, pasted: str) -> Grant:
        """Redeem the code in PASTED, the redirected URL or the bare code, and store the tokens.

        Raises:
            AuthorizationFailed: says what went wrong and what to do.
        """
        login = self._logins.get(login_id)
        if login is None or self._clock.now() - login.begun_at > LOGIN_MINUTES * 60:
            raise AuthorizationFailed("this login has timed out: start it again")
        code = read_callback(login.request, pasted)
        del self._logins[login_id]
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
        self._changed([grant.name])
        return grant

    async def _redeem(self, login: Login, code: Secret) -> Grant:
        """Exchange the code; the vault has proven writable, since the code is single-use too."""
        await self._vault.prove_writable(self._clock.now())
        sent_at = self._clock.now()
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
        attempt = Attempt(sent_at=sent_at, ended_at=self._clock.now(), draw=self._clock.draw())
        change = adopt_authorization(grant, login.client, outcome.answer, attempt)
        for warning in change.warnings:
            emit(Event.ANSWER_DOUBTED, grant=grant.name, client=grant.client, reason=warning)
        return await self._durability.until_written(
            lambda: self._vault.authorize(
                login.name, change, self._clock.now(), redirect_uri=login.request.redirect_uri
            ),
            grant=grant,
            record=login_record(grant, change, login.request.redirect_uri),
        )

    async def _add(self, name: str, client: Client) -> None:
        seed = Seed(name=name, client=client.name)
        now, draw = self._clock.now(), self._clock.draw()
        self._report(await self._vault.apply_seed(seed, now, draw, origin="runtime"), "login")
        self._changed([name])

    def _client(self, name: str | None) -> Client:
        if name is None or name not in self._clients:
            raise AuthorizationFailed(
                f"there is no client {name} in the settings"
                + (f": there are {', '.join(sorted(self._clients))}" if self._clients else "")
            )
        return self._clients[name]

    def _report(self, seeded: Seeded, origin: str) -> None:
        grant = seeded.grant
        if seeded.result is SeedResult.ADDED:
            emit(Event.GRANT_ADDED, grant=grant.name, client=grant.client, origin=origin)
        if seeded.result is SeedResult.ADOPTED:
            emit(Event.GRANT_SEEDED, grant=grant.name, client=grant.client, origin=origin)

    def _changed(self, names: Sequence[str]) -> None:
        for name in names:
            self._publish(name)
        if names:
            self._wake()


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
