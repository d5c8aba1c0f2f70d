"""What every test gets."""

import signal

import pytest

from tests.canary import Canary

# Whoever started the tests may ignore it (nohup), and what they start would do so as well. A
# handler that does nothing is as good here, and no process inherits it.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """aiohttp and redis speak asyncio only."""
    return "asyncio"


@pytest.fixture(scope="module")
def canary() -> Canary:
    """Secrets to be planted in one module's daemons, and found where they came out."""
    return Canary()
