"""A TCP proxy on loopback whose connections can be made slow, or silent without an end."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from anyio.abc import SocketStream
from anyio.from_thread import start_blocking_portal


class Proxy:
    """Forwards to one port; its switches may be turned from any thread.

    Attributes:
        latency: seconds every piece takes, in each direction.
        is_cut: nothing comes through, on no connection. Once it is mended the clients hear that
            those it has met are gone; the server never does.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.latency = 0.0
        self.is_cut = False
        self._life = 0
        self._silent_to: dict[str, int] = {"server": 0, "client": 0}

    @property
    def url(self) -> str:
        """Where the proxied Redis is found."""
        return f"redis://127.0.0.1:{self.port}/0"

    def forget(self, *towards: str) -> None:
        """Forward nothing more on the connections of now TOWARDS server or client, or either.

        Nothing is closed: so does a firewall that forgets, or a cable that is pulled.
        """
        self._life += 1
        for side in towards or ("server", "client"):
            self._silent_to[side] = self._life

    def cut(self) -> None:
        """Let nothing through until ``is_cut`` is false again."""
        self.is_cut = True
        self.forget()

    async def serve(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Forward until cancelled."""
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=self.port)
        task_status.started()
        async with listener:
            await listener.serve(self._forward)

    async def _forward(self, client: SocketStream) -> None:
        life = -1 if self.is_cut else self._life
        async with client:
            try:
                server = await anyio.connect_tcp("127.0.0.1", self._target)
            except OSError:
                return
            async with server, anyio.create_task_group() as group:

                async def pump(source: SocketStream, sink: SocketStream, side: str) -> None:
                    try:
                        async for piece in source:
                            await anyio.sleep(self.latency)
                            if self._silent_to[side] <= life and not self.is_cut:
                                await sink.send(piece)
                    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                        pass  # either side went away
                    if self._silent_to[side] > life:
                        await anyio.sleep_forever()  # nor does the other hear of that
                    group.cancel_scope.cancel()

                async def reset_once_mended() -> None:
                    while not self.is_cut:  # noqa: ASYNC110  turned from any thread
                        await anyio.sleep(0.1)
                    while self.is_cut:  # noqa: ASYNC110  same
                        await anyio.sleep(0.1)
                    await client.aclose()

                group.start_soon(pump, client, server, "server")
                group.start_soon(pump, server, client, "client")
                group.start_soon(reset_once_mended)


@contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    """A proxy in front of PORT until the block ends."""
    proxy = Proxy(port)
    with start_blocking_portal() as portal:
        running, _ = portal.start_task(proxy.serve)
        try:
            yield proxy
        finally:
            running.cancel()
