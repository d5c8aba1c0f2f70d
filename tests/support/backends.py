"""The connections that holders have to a database, as far as it knows of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.engine import Connection

from refresher.vault.heartbeats import Backend


@dataclass
class Server:
    """A database server, and who is connected to it."""

    connected: set[Backend | None] = field(default_factory=set)
    _count: int = 0

    def connect(self, at: float) -> Backend:
        """A new backend, for one holder."""
        self._count += 1
        backend = Backend(self._count, at, "server")
        self.connected.add(backend)
        return backend


@dataclass
class KnownBackends:
    """What one holder can ask its connections; ``backend`` None is behind a pooler."""

    server: Server
    backend: Backend | None
    reading: Backend | None = None

    def own(self, _: Connection) -> Backend | None:
        return self.backend

    def gone(self, _: Connection, known: Sequence[Backend]) -> set[Backend]:
        return {*known} - self.server.connected
