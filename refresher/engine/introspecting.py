"""Learning when a token ends whose answer told no end: its server is asked once.

Everything is durable and published before: until the server has told, and where it does not,
the life counts that is assumed of its tokens.
"""

from collections.abc import Callable
from typing import Protocol

from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.grants import Grant
from refresher.domain.outcomes import TokenAnswer
from refresher.domain.secret import Secret
from refresher.engine.supervision import report_bug
from refresher.errors import VaultUnavailable
from refresher.logs import Event, emit
from refresher.vault.vault import Vault

DEADLINE = 5.0
"""Seconds a server may take; a worker waits for that."""


class Introspect(Protocol):
    """Asks a client's server; never raises for what network or server do."""

    async def __call__(
        self, client: Client, access_token: Secret, *, now: float, deadline: float
    ) -> float | str:
        """When ACCESS_TOKEN ends, or why nobody knows."""


class Introspecting:
    """Asks for the ends of tokens at clients that have an introspection endpoint."""

    def __init__(
        self,
        *,
        vault: Vault,
        introspect: Introspect,
        publish: Callable[[str], None],
        wake: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._vault = vault
        self._introspect = introspect
        self._publish = publish
        self._wake = wake
        self._clock = clock
        self._failing: set[str] = set()
        """Clients whose server does not tell, which was said."""

    async def ask(self, client: Client, grant: Grant, answer: TokenAnswer) -> None:
        """Learn the end of the token that ANSWER brought and GRANT has by now, if that told none.

        Nothing that goes wrong here costs anything: it is said, and the assumed life counts.
        """
        tells = answer.expires_in is not None or answer.ends_in is not None
        if client.endpoints.introspection is None or answer.access_token is None or tells:
            return
        try:
            await self._learn(client, grant, answer.access_token)
        except VaultUnavailable:
            self._tell_failed(client, "vault_refused")
        except Exception as error:  # noqa: BLE001  supervision: the tokens are worth more
            report_bug("introspection", error, grant=grant.name)

    async def _learn(self, client: Client, grant: Grant, access_token: Secret) -> None:
        told = await self._introspect(
            client, access_token, now=self._clock.now(), deadline=DEADLINE
        )
        if isinstance(told, str):
            self._tell_failed(client, told)
            return
        is_learned = await self._vault.endings.learn(grant, client, told, self._clock.draw())
        self._failing.discard(client.name)
        if is_learned:
            self._publish(grant.name)
            self._wake()

    def _tell_failed(self, client: Client, fault: str) -> None:
        if client.name not in self._failing:
            self._failing.add(client.name)
            emit(Event.INTROSPECTION_FAILED, client=client.name, error=fault)
