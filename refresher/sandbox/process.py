"""The sandbox as a process of its own: it says where it listens, and ends on a signal."""

import signal
from collections.abc import Callable

import anyio

from refresher.sandbox.options import SandboxOptions
from refresher.sandbox.server import Sandbox


async def serve(options: SandboxOptions, announce: Callable[[Sandbox], None]) -> None:
    """Serve until SIGTERM or SIGINT; ANNOUNCE is called once it listens.

    Raises:
        OSError: the port cannot be had.
    """
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with Sandbox(options) as sandbox:
            announce(sandbox)
            async for _ in signals:
                return
