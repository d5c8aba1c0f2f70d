"""Listens on a loopback redirect URI for the one redirect that ends a login (RFC 8252 7.3).

Every process of this machine can come here, and every page of the web through a browser on
it. Only who brings the state of the login is believed; all others get a 400, and the login
goes on.
"""

import base64
import errno
import hashlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from urllib.parse import urlsplit, urlunsplit

import anyio
from aiohttp import web

from refresher.domain.secret import Secret
from refresher.errors import AuthorizationFailed
from refresher.listening import Connections
from refresher.oauth.authorization import is_answer, is_loopback

_STYLE = (
    "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:18vh auto;padding:0 1rem}"
)

_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>refresher</title>'
    "<style>{style}</style><h1>{title}</h1><p>{text}</p></html>"
)

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'",
}
"""The page's address holds the code: it is neither stored nor passed on."""

HTTP_PORT = 80

LOCALHOST = ("127.0.0.1", "::1")
"""What browsers take ``localhost`` for, one or the other."""

NO_SUCH_FAMILY = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""There is no ``::1`` on this machine: neither browser nor stranger can use it."""

PORT_TRIES = 16
"""Ports that are tried for one that is free in both families."""


class CallbackListener:
    """One listener for one login.

    The answer to the browser is given once the login has ended, so the page tells the
    truth: ``wait`` gives the query, ``tell`` the page.
    """

    def __init__(self, redirect_uri: str) -> None:
        self._state: Secret | None = None
        self._hosts: frozenset[str] = frozenset()
        self._query = ""
        self._arrived = anyio.Event()
        self._told = anyio.Event()
        self._page = ("Login not finished", "The terminal says more; close this page.")
        self.redirect_uri = redirect_uri
        """What the server must redirect to; carries the real port once listening."""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["CallbackListener"]:
        """Listen until the block ends.

        Raises:
            AuthorizationFailed: the port is taken, or the address is not a loopback one.
        """
        if not is_loopback(self.redirect_uri):
            raise AuthorizationFailed(
                f"{self.redirect_uri} does not lead to this machine: nobody can listen there"
            )
        parts = urlsplit(self.redirect_uri)
        listeners = _bind(parts.hostname or "", parts.port or 0)
        port = listeners[0].getsockname()[1]
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        self.redirect_uri = urlunsplit(parts._replace(netloc=f"{host}:{port}"))
        # A browser leaves the port of the scheme out.
        self._hosts = frozenset({f"{host}:{port}"} | ({str(host)} if port == HTTP_PORT else set()))
        app = web.Application()
        app.router.add_get(parts.path or "/", self._answer, allow_head=False)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=2)
        await runner.setup()
        assert runner.server is not None
        self._connections = Connections(runner.server)
        try:
            async with self._connections.accepted(listeners):
                yield self
        finally:
            self._told.set()
            with anyio.CancelScope(shield=True):
                await runner.cleanup()

    def expect(self, state: Secret) -> None:
        """Believe from now on whoever brings STATE; before, nobody is."""
        self._state = state

    async def wait(self, seconds: float) -> str:
        """The query the browser brought, as encoded as it came, at most SECONDS from now.

        Raises:
            AuthorizationFailed: nobody came.
        """
        with anyio.move_on_after(seconds):
            await self._arrived.wait()
        if not self._arrived.is_set():
            raise AuthorizationFailed(
                f"nobody came back from the authorization within {seconds:.0f} s: start the "
                "login again, with --no-browser if the browser runs on another machine; if the "
                f"server showed an error, check client_id, and register {self.redirect_uri} there, "
                "exactly so"
            )
        return self._query

    def tell(self, title: str, text: str) -> None:
        """Give the browser its page."""
        self._page = (title, text)
        self._told.set()

    async def _answer(self, request: web.Request) -> web.Response:
        query = request.rel_url.raw_query_string
        # Some servers have a name of their own for the code: the state tells an answer.
        if not self._is_for_us(request) or not request.query.keys() - {"state", "iss"}:
            return _html("Nothing to see", "A login in progress is answered here.", status=400)
        if self._state is None or not is_answer(query, self._state):
            return _html(
                "Not this login", "This is no answer to the login in progress.", status=400
            )
        if self._arrived.is_set():
            return _html("Already received", "This login has been received before.")
        self._query = query
        self._arrived.set()
        with self._connections.at_work(request.protocol):
            await self._told.wait()
        return _html(*self._page)

    def _is_for_us(self, request: web.Request) -> bool:
        """Whether the browser was sent here by our address.

        A page of another site whose name was pointed at this machine (DNS rebinding) comes
        with that name.
        """
        hosts = request.headers.getall("Host", [])
        return len(hosts) == 1 and hosts[0].lower() in self._hosts


def _bind(host: str, port: int) -> list[socket.socket]:
    """Sockets for HOST: both families for ``localhost``, lest somebody else take the other."""
    if host != "localhost":
        return [_listen(host, port, host)]
    for _ in range(PORT_TRIES):
        first = _listen(LOCALHOST[0], port, host)
        try:
            second = socket.create_server(
                (LOCALHOST[1], first.getsockname()[1]), family=socket.AF_INET6
            )
        except OSError as error:
            if error.errno in NO_SUCH_FAMILY:
                return [first]
            first.close()
            if port == 0 and error.errno == errno.EADDRINUSE:
                continue  # the next port may be free in both
            raise _refusal(host, port, error) from error
        return [first, second]
    raise AuthorizationFailed(f"no port of {host} is free for both IPv4 and IPv6: use --no-browser")


def _listen(address: str, port: int, host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family)
    except OSError as error:
        raise _refusal(host, port, error) from error


def _refusal(host: str, port: int, error: OSError) -> AuthorizationFailed:
    return AuthorizationFailed(
        f"cannot listen on {host}:{port} ({_reason(error)}): stop what uses that port, "
        "register another loopback redirect URI, or use --no-browser"
    )


def _html(title: str, text: str, *, status: int = 200) -> web.Response:
    page = _PAGE.format(style=_STYLE, title=escape(title), text=escape(text))
    response = web.Response(text=page, status=status, content_type="text/html", headers=_HEADERS)
    response.force_close()
    return response


def _reason(error: OSError) -> str:
    """Why, without the address, which asyncio puts into ``strerror``."""
    known = error.errno is not None and error.errno > 0
    return os.strerror(error.errno) if known and error.errno else str(error.strerror)
