"""What every login comes to: the first tokens of an authorization, in the vault.

Whatever a person consented by, a code brings the tokens, and it is as single as they are.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from refresher.clock import Clock, Instant
from refresher.domain.adoption import adopt_authorization
from refresher.domain.clients import Client
from refresher.domain.completion import needs_registering
from refresher.domain.grants import NAME_RULE, Grant, GrantKind, is_valid_name
from refresher.domain.logins import Consent, Login
from refresher.domain.outcomes import (
    Outcome,
    Refreshed,
)
from refresher.domain.seeds import Seed
from refresher.engine.announcements import (
    announce,
    announce_seeded,
    announce_tokens_without_refresh,
)
from refresher.engine.durability import Durability
from refresher.engine.instants import attempt_since
from refresher.engine.records import login_record
from refresher.engine.refresh import LearnEnd
from refresher.errors import AuthorizationFailed, UnknownGrant
from refresher.logs import Event, emit
from refresher.oauth import authorization
from refresher.oauth.answers import with_extras
from refresher.vault.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a login is for."""

    name: str
    grant: Grant | None
    """None for one that the login will make."""
    client: Client

    @property
    def scope(self) -> tuple[str, ...]:
        """What it asks for."""
        asked = () if self.grant is None else self.grant.scope
        return asked or self.client.scope

    @property
    def wants_device(self) -> bool:
        """Whether only a device code can bring its tokens: nothing is registered for a browser."""
        return self.client.endpoints.device_authorization is not None and not (
            self.client.redirect_uris and self.client.endpoints.authorization
        )

    def redirect_uri(self, chosen: str | None) -> str:
        """Where the answer is awaited: at CHOSEN, or else at the client's first.

        Raises:
            AuthorizationFailed: it is not registered, or none is.
        """
        client = self.client
        if not client.redirect_uris:
            raise AuthorizationFailed(f"client {client.name} has no redirect_uris in the settings")
        chosen = chosen or client.redirect_uris[0]
        if not authorization.is_registered(chosen, client.redirect_uris):
            raise AuthorizationFailed(
                f"{chosen} is not in the redirect_uris of client {client.name}: add it there and "
                "at the provider"
            )
        return chosen


@dataclass(frozen=True, slots=True)
class Authorized:
    """What a login came to."""

    grant: Grant
    account_before: str | None
    """The account that had authorized the grant, where another one has done so now."""


class Targets:
    """What can be logged in, and what a login makes."""

    def __init__(
        self,
        *,
        vault: Vault,
        clients: Mapping[str, Client],
        ready: Callable[[Client], Awaitable[Client]],
        changed: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self._ready = ready
        self._vault = vault
        self._clients = clients
        self._changed = changed
        self._clock = clock

    async def find(self, name: str, *, client_name: str | None = None) -> Target:
        """What a login of the grant NAME would be for, if there can be one.

        Args:
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
        elif grant.kind.renews_itself:
            raise AuthorizationFailed(
                f"grant {name} needs no login: the daemon renews it with what the settings hold"
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
        return Target(name=name, grant=grant, client=client)

    async def add(self, target: Target) -> None:
        """Make the grant of TARGET, unless there is one."""
        if target.grant is not None:
            return
        seed = Seed(name=target.name, client=target.client.name)
        draw = self._clock.draw()
        announce_seeded(await self._vault.apply_seed(seed, draw, origin="runtime"), origin="login")
        self._changed(target.name)

    def _refuse_unknown(self, name: str, client_name: str | None) -> None:
        """Raise unless a login can make the grant NAME for the client CLIENT_NAME."""
        if client_name is None:
            raise AuthorizationFailed(
                f"there is no grant named {name}: name its client with --client, one of "
                f"{', '.join(sorted(self._clients)) or 'none in the settings'}"
            )
        if not is_valid_name(name):
            raise AuthorizationFailed(f"the grant's name is outside the alphabet ({NAME_RULE})")


class FirstTokens:
    """Takes what a code brings into the vault."""

    def __init__(
        self,
        *,
        vault: Vault,
        durability: Durability,
        changed: Callable[[str], None],
        clock: Clock,
        learn_end: LearnEnd,
    ) -> None:
        self._learn_end = learn_end
        self._vault = vault
        self._durability = durability
        self._changed = changed
        self._clock = clock

    async def ask(
        self,
        name: str,
        client: Client,
        ask: Callable[[], Awaitable[Outcome]],
        *,
        extras: Mapping[str, str],
        consent: Consent,
    ) -> Authorized | Outcome:
        """ASK for the tokens of the grant NAME of CLIENT, and store what comes.

        The caller has proven the vault writable, since a code is single-use too, and shields
        this from cancellation.

        Args:
            extras: of the redirect, published with the token.

        Returns:
            The outcome where it brought no access token: nothing was changed.

        Raises:
            UnknownGrant, AuthorizationFailed: the grant was removed or given away meanwhile.
        """
        sent = Instant.of(self._clock)
        with self._durability.exchange():
            outcome = await ask()
            if not isinstance(outcome, Refreshed):
                return outcome
            grant = await self._vault.find(name)
        if grant is None:
            raise UnknownGrant(name)
        if grant.client != client.name:
            raise AuthorizationFailed(
                f"grant {name} was given to client {grant.client} meanwhile: start the login again"
            )
        attempt, set_back = attempt_since(sent, self._clock), self._vault.set_back
        answer = with_extras(outcome.answer, extras)
        change = adopt_authorization(grant, client, answer, attempt)
        for warning in change.warnings:
            emit(Event.ANSWER_DOUBTED, grant=grant.name, client=grant.client, reason=warning)

        async def write() -> Grant:
            moved = change.moved(self._vault.set_back - set_back)
            return await self._vault.authorize(name, moved, consent)

        authorized = await self._durability.until_written(
            write, grant=grant, record=login_record(grant, change, consent)
        )
        announce(grant, authorized)
        is_other = authorized.is_of_another_account(grant)
        done = Authorized(authorized, grant.authorized_by if is_other else None)
        self._tell(done)
        await self._learn_end(client, authorized, answer)
        return done

    async def of_done(self, login: Login) -> Authorized:
        """What LOGIN, which is done, came to: for whoever was not told.

        Raises:
            UnknownGrant: the grant was removed since.
        """
        grant = await self._vault.find(login.name)
        if grant is None:
            raise UnknownGrant(login.name)
        return Authorized(grant, None)

    def _tell(self, done: Authorized) -> None:
        grant = done.grant
        emit(
            Event.GRANT_AUTHORIZED,
            grant=grant.name,
            client=grant.client,
            version=grant.version,
            expires_at=grant.expires_at,
        )
        if done.account_before is not None:
            emit(Event.GRANT_ACCOUNT_CHANGED, grant=grant.name, client=grant.client)
        announce_tokens_without_refresh(grant)
        self._changed(grant.name)


def asked_client(clients: Mapping[str, Client], login: Login) -> Client:
    """The client whose server LOGIN has asked, as it is now.

    Raises:
        AuthorizationFailed: it is another one by now, and what came goes to no other server.
    """
    client = find_client(clients, login.client)
    if not login.is_of(client):
        raise AuthorizationFailed(
            f"client {client.name} has another client_id or token_endpoint than when the login "
            "began: start it again"
        )
    return client


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
