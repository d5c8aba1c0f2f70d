"""A connection that hangs up on a server that takes everything and answers nothing."""

from collections.abc import Generator
from typing import Any, TypeVar

from psycopg import Connection, OperationalError

from refresher.clock import elapsed

T = TypeVar("T")

ANSWERED_WITHIN = 20.0
"""Seconds in which an answer comes: the server itself gives a statement up after 15."""

COMMITTED_WITHIN = 300.0
"""Seconds for that of a COMMIT, which waits for a synchronous standby. A server goes on waiting
when its client has hung up: were it soon, a long wait would take all of its connections."""


class VaultConnection(Connection[Any]):
    """A connection on which no answer is waited for without an end.

    Keepalives find a machine that is gone. They do not find a pooler, a proxy or a backend that
    was stopped: the system below it goes on acknowledging what it gets.

    Attributes:
        patience: seconds that an answer may take.
    """

    patience = ANSWERED_WITHIN

    def wait(self, gen: Generator[Any, Any, T], *arguments: Any, **named: Any) -> T:
        """Run GEN to its end, which it gets only while the server answers.

        Raises:
            OperationalError: it does not. The connection is closed then.
        """
        return super().wait(self._ended(gen), *arguments, **named)

    def _ended(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        until = elapsed() + self.patience
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and elapsed() > until:
                    self.pgconn.finish()
                    raise OperationalError("the server does not answer")
                wanted = gen.send(ready)
        except StopIteration as done:
            value: T = done.value
            return value
