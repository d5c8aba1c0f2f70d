"""Fixtures with a real Valkey; import them in the conftest that wants them."""

from collections.abc import Iterator

import pytest
from redis import Redis
from redis.driver_info import DriverInfo

from refresher.demo.private_server import PrivateValkey

__all__ = ["Valkey", "session_valkey", "shared_valkey", "valkey"]


DRIVER = DriverInfo()
"""What clients call themselves: each would look for its version among what pip installed."""


class Valkey(PrivateValkey):
    """A private Valkey that can be looked into."""

    def client(self, *, decode: bool = True) -> Redis:
        """A synchronous client, for arranging and for looking; close it or use ``with``."""
        return Redis.from_url(self.url, decode_responses=decode, driver_info=DRIVER)


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A fresh server of this test alone: it may be killed, frozen and restarted."""
    server = Valkey()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def session_valkey() -> Iterator[Valkey]:
    """The server behind ``shared_valkey``."""
    server = Valkey()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def shared_valkey(session_valkey: Valkey) -> Valkey:
    """One server for many tests, flushed for each: leave its settings alone."""
    with session_valkey.client() as client:
        client.flushall()
        client.script_flush()
    return session_valkey
