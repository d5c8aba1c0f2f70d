"""How the parts around one open vault are made and put together."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from refresher.app.answers import Daemon
from refresher.app.operations import Operations
from refresher.app.secret_watch import SecretWatch
from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.grants import Publication
from refresher.engine.administration import Administration
from refresher.engine.device_logins import DeviceLogins
from refresher.engine.discovering import Discovering
from refresher.engine.durability import Durability
from refresher.engine.introspecting import Introspecting
from refresher.engine.keeping import Keeping
from refresher.engine.logins import Logins
from refresher.engine.refresh import Refresh
from refresher.engine.registering import Registering
from refresher.engine.replicas import Replicas
from refresher.engine.revoking import Revoking
from refresher.oauth.device_authorization import begin as begin_device
from refresher.oauth.introspection import introspect
from refresher.oauth.metadata import discover
from refresher.oauth.pushed_authorization import push
from refresher.oauth.registration import register
from refresher.oauth.revocation import revoke
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.publication.keys import Keys
from refresher.publication.publisher import Publisher
from refresher.publication.server.opening import open_server
from refresher.vault.opening import open_vault
from refresher.vault.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """How the parts with an outside are made; whoever composes the daemon may wrap them."""

    open_vault: Callable[..., Awaitable[Vault]] = open_vault
    token_endpoint: Callable[[], AbstractAsyncContextManager[TokenEndpoint]] = TokenEndpoint
    publisher: Callable[..., Publisher] = Publisher


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """The parts around one open vault that daemon and commands share."""

    vault: Vault
    clients: dict[str, Client]
    """Exchanged in place at a reload; whoever needs one client looks it up when it begins."""
    durability: Durability
    refresh: Refresh
    administration: Administration
    logins: Logins
    device_logins: DeviceLogins
    discovering: Discovering
    registering: Registering
    replicas: Replicas
    revoking: Revoking
    keeping: Keeping

    def operations(self, about: Daemon) -> Operations:
        """What commands can ask of them; ABOUT says who answers."""
        return Operations(self.administration, self.logins, self.revoking, self.keeping, about)


@asynccontextmanager
async def opened_core(
    secrets: SecretWatch,
    vault: Vault,
    *,
    publish: Callable[[str], None],
    publish_committed: Callable[[Publication], None] | None = None,
    publish_behind: Callable[[int], None],
    wake: Callable[[], None],
    clock: Clock,
    parts: Parts,
) -> AsyncIterator[Core]:
    """Put the shared parts around VAULT, which stays the caller's to close.

    Raises:
        VaultUnavailable: what it keeps of the clients' servers cannot be read.
    """
    clients = secrets.clients
    durability = Durability(vault)
    replicas = Replicas(
        vault=vault,
        clients=clients,
        durability=durability,
        publish=publish,
        wake=wake,
        clock=clock,
    )
    wake = replicas.telling(wake)
    async with parts.token_endpoint() as endpoint:
        discovering = Discovering(
            vault=vault,
            read=partial(discover, endpoint),
            clients=clients,
            exchange=secrets.exchange,
            clock=clock,
        )
        clients.update(await discovering.recalled(clients))
        introspecting = Introspecting(
            vault=vault,
            introspect=partial(introspect, endpoint),
            publish=publish,
            wake=wake,
            clock=clock,
        )
        logins = Logins(
            vault=vault,
            endpoint=endpoint,
            ready=discovering.ready,
            push=partial(push, endpoint),
            clients=clients,
            durability=durability,
            publish=publish,
            wake=wake,
            clock=clock,
            learn_end=introspecting.ask,
        )
        yield Core(
            vault=vault,
            clients=clients,
            durability=durability,
            refresh=Refresh(
                vault=vault,
                endpoint=endpoint,
                durability=durability,
                publish=publish,
                publish_committed=publish_committed,
                clock=clock,
                reread=secrets.reread,
                learn_end=introspecting.ask,
            ),
            administration=Administration(
                vault=vault,
                clients=clients,
                publish=publish,
                publish_behind=publish_behind,
                wake=wake,
                clock=clock,
            ),
            logins=logins,
            device_logins=DeviceLogins(
                vault=vault,
                endpoint=endpoint,
                begin=partial(begin_device, endpoint),
                clients=clients,
                targets=logins.targets,
                first_tokens=logins.first_tokens,
                clock=clock,
            ),
            discovering=discovering,
            registering=Registering(
                vault=vault,
                register=partial(register, endpoint),
                discovering=discovering,
                clients=clients,
                clock=clock,
            ),
            replicas=replicas,
            revoking=Revoking(
                vault=vault,
                revoke=partial(revoke, endpoint),
                clients=clients,
                publish=publish,
                clock=clock,
            ),
            keeping=Keeping(
                vault=vault,
                clients=clients,
                publish=publish,
                wake=wake,
                clock=clock,
            ),
        )


def publisher_of(secrets: SecretWatch, prefix: str, clock: Clock, parts: Parts) -> Publisher:
    """The way to Redis, to keys that begin with PREFIX."""
    server = open_server(secrets.address, reread=secrets.reread_address)
    return parts.publisher(server=server, keys=Keys(prefix), clock=clock)
