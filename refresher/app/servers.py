"""What commands ask of the servers that clients leave something to: JSON in, JSON out."""

from collections.abc import Mapping

from refresher.app import answers, calls
from refresher.app.calls import Operation, Taking
from refresher.domain.clients import Client
from refresher.domain.completion import is_registered
from refresher.engine.discovering import Discovering
from refresher.engine.first_tokens import find_client
from refresher.engine.registering import Registering


class Servers:
    """The operations by name, each a method that takes what one call asks for."""

    def __init__(
        self,
        clients: Mapping[str, Client],
        discovering: Discovering,
        registering: Registering | None = None,
    ) -> None:
        self._clients = clients
        self._discovering = discovering
        self._registering = registering

    def by_name(self) -> dict[str, Operation]:
        """Every operation; the question alone for whoever only looks."""
        asked: dict[str, Operation] = {"clients": Taking(calls.Clients, self.clients)}
        if self._registering is None:
            return asked
        return asked | {
            "register": Taking(calls.Register, self.register),
            "discover": Taking(calls.Discover, self.discover),
        }

    async def clients(self, _: calls.Clients) -> answers.Clients:
        """The clients that leave something to their servers, by name."""
        named = sorted(self._clients.items())
        found = [client for _, client in named if client.discovery is not None]
        return {"clients": [client_view(client, self._discovering) for client in found]}

    async def register(self, call: calls.Register) -> answers.ClientView:
        """Have a client made by its server; nothing of what comes back is told but its end."""
        assert self._registering is not None
        await self._registering.register(call.client, again=call.again)
        return client_view(self._clients[call.client], self._discovering)

    async def discover(self, call: calls.Discover) -> answers.ClientView:
        """Ask the server of a client what it is, and let that count."""
        client = find_client(self._clients, call.client)
        if client.discovery is not None and client.discovery.source is not None:
            await self._discovering.discover(client, accept=call.accept, is_ordered=True)
        return client_view(self._clients[call.client], self._discovering)


def client_view(client: Client, discovering: Discovering) -> answers.ClientView:
    """What CLIENT has from its server, its id and its secrets aside, and what is to be done."""
    known, endpoints = discovering.known(client.name), client.endpoints
    metadata = known.metadata
    registration = known.registration if is_registered(client, known.registration) else None
    revocation = None if endpoints.revocation is None else endpoints.revocation.endpoint
    return {
        "client": client.name,
        "source": None if client.discovery is None else client.discovery.source,
        "issuer": endpoints.issuer,
        "read_at": None if metadata is None else metadata.read_at,
        "endpoints": {
            "authorization_endpoint": endpoints.authorization,
            "token_endpoint": endpoints.token or None,
            "revocation_endpoint": revocation,
            "introspection_endpoint": endpoints.introspection,
            "registration_endpoint": endpoints.registration,
            "pushed_authorization_request_endpoint": endpoints.pushed_authorization,
        },
        "client_authentication": client.quirks.client_authentication.value,
        "promises_issuer": endpoints.promises_issuer,
        "require_pushed_authorization_requests": (
            client.quirks.require_pushed_authorization_requests
        ),
        "scope": list(client.scope),
        "resource": client.resource,
        "registered_at": None if registration is None else registration.registered_at,
        "client_secret_expires_at": (
            None if registration is None else registration.client_secret_expires_at
        ),
        "doubts": discovering.doubts(client),
    }
