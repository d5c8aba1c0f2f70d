"""Registering clients at their servers (RFC 7591), once each unless a person says again."""

from collections.abc import Awaitable, Callable, Mapping

import anyio

from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.completion import is_registered
from refresher.domain.discovery import Metadata, Registration
from refresher.engine.discovering import Discovering
from refresher.engine.first_tokens import find_client
from refresher.errors import RegistrationFailed
from refresher.logs import Event, emit
from refresher.times import written
from refresher.vault.vault import Vault

Register = Callable[[Client, Metadata | None, float], Awaitable[Registration]]
"""Raises ``RegistrationFailed``."""


class Registering:
    """Has clients made by their servers, and keeps what comes back."""

    def __init__(
        self,
        *,
        vault: Vault,
        register: Register,
        discovering: Discovering,
        clients: Mapping[str, Client],
        clock: Clock,
    ) -> None:
        self._vault = vault
        self._register = register
        self._discovering = discovering
        self._clients = clients
        self._clock = clock
        self._one_at_a_time = anyio.Lock()

    async def register(self, name: str, *, again: bool = False) -> Registration:
        """Register the client NAME, and let the daemon use what comes back.

        Args:
            again: in the place of an earlier registration.

        Raises:
            AuthorizationFailed: there is no such client, or nothing is known of its server.
            RegistrationFailed: it is not to be registered, or was not; says what to do.
            VaultUnavailable: nothing could be kept; at the server a client may be left over.
        """
        async with self._one_at_a_time:
            client = find_client(self._clients, name)
            if client.discovery is None or "client_id" in client.discovery.told:
                raise RegistrationFailed(
                    f"client {name} has its client_id in the settings: take client_id away to have "
                    "one registered, and set issuer, resource or registration_endpoint"
                )
            client = await self._discovering.ready(client)
            known = self._discovering.known(name)
            if known.registration and is_registered(client, known.registration) and not again:
                raise RegistrationFailed(
                    f"client {name} is registered since {written(known.registration.registered_at)}"
                    ": --again gets it another client id; what was authorized under the present "
                    "one then needs a login"
                )
            await self._vault.prove_writable()
            with anyio.CancelScope(shield=True):
                now = self._clock.now()
                registration = await self._register(client, known.metadata, now)
                await self._discovering.keep(client, registration)
        emit(Event.CLIENT_REGISTERED, client=name, ends_at=registration.client_secret_expires_at)
        return registration
