import base64
import errno
import hashlib
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import anyio
import pytest
from yarl import URL

from refresher.domain.secret import Secret
from refresher.errors import AuthorizationFailed
from refresher.oauth.loopback import CallbackListener

STATE = Secret("the-state")


@asynccontextmanager
async def expecting(uri: str) -> AsyncIterator[CallbackListener]:
    """A listener of a login that has begun."""
    async with CallbackListener(uri).listening() as listener:
        listener.expect(STATE)
        yield listener


class Page:
    """One answer, as a browser sees it."""

    status = 0
    text = ""
    headers: dict[str, str] = {}  # noqa: RUF012  replaced, never changed

    async def open(self, url: str, method: str = "GET", host: str | None = None) -> None:
        timeout = aiohttp.ClientTimeout(total=5)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(
                method, URL(url, encoded=True), headers={} if host is None else {"Host": host}
            ) as response,
        ):
            self.status, self.text = response.status, await response.text()
            self.headers = dict(response.headers)


async def fetched(url: str, method: str = "GET", host: str | None = None) -> Page:
    page = Page()
    await page.open(url, method, host)
    return page


async def test_the_query_comes_as_it_was_sent() -> None:
    page = Page()
    async with (
        anyio.create_task_group() as group,
        expecting("http://127.0.0.1/cb") as listener,
    ):
        group.start_soon(page.open, f"{listener.redirect_uri}?code=4%2F0A%2Bx%26y&state=the-state")

        assert await listener.wait(5) == "code=4%2F0A%2Bx%26y&state=the-state"
        listener.tell("Login done", "Close <this> page.")

    assert page.status == 200
    assert "<h1>Login done</h1><p>Close &lt;this&gt; page.</p>" in page.text
    assert "4/0A" not in page.text


async def test_the_page_keeps_the_code_to_itself() -> None:
    page = Page()
    async with (
        anyio.create_task_group() as group,
        expecting("http://127.0.0.1/cb") as listener,
    ):
        group.start_soon(page.open, f"{listener.redirect_uri}?code=C&state=the-state")
        await listener.wait(5)
        listener.tell("Done", "Done")

    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    style = re.search("<style>(.*)</style>", page.text)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert page.headers["Content-Security-Policy"] == (
        f"default-src 'none'; frame-ancestors 'none'; style-src 'sha256-{digest}'"
    )


async def test_a_broken_off_login_is_told_too() -> None:
    page = Page()
    async with (
        anyio.create_task_group() as group,
        expecting("http://127.0.0.1/cb") as listener,
    ):
        group.start_soon(page.open, f"{listener.redirect_uri}?code=C&state=the-state")
        await listener.wait(5)

    assert "Login not finished" in page.text


async def test_a_code_of_another_name_is_heard() -> None:
    page = Page()
    async with (
        anyio.create_task_group() as group,
        expecting("http://127.0.0.1/cb") as listener,
    ):
        answer = "spapi_oauth_code=C&state=the-state"
        group.start_soon(page.open, f"{listener.redirect_uri}?{answer}")
        assert await listener.wait(5) == answer
        listener.tell("Done", "Done")


async def test_a_second_visit_is_answered_politely() -> None:
    first = Page()
    async with (
        anyio.create_task_group() as group,
        expecting("http://127.0.0.1/cb") as listener,
    ):
        group.start_soon(first.open, f"{listener.redirect_uri}?code=1&state=the-state")
        query = await listener.wait(5)
        second = await fetched(f"{listener.redirect_uri}?code=2&state=the-state")
        listener.tell("Done", "Done")

        assert query == "code=1&state=the-state"
        assert await listener.wait(5) == "code=1&state=the-state"
        assert "Already received" in second.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/favicon.ico", 404),
        ("GET", "/cb/more?code=C&state=the-state", 404),
        ("GET", "/cb", 400),
        ("GET", "/cb?probe=1", 400),
        ("GET", "/cb?state=the-state", 400),
        ("GET", "/cb?code=C", 400),
        ("GET", "/cb?error=access_denied", 400),
        ("GET", "/cb?code=C&state=another", 400),
        ("GET", "/cb?error=access_denied&state=another", 400),
        ("GET", "/cb?code=C&state=the-state&state=another", 400),
        ("GET", "/cb?code=C&state=another&state=the-state", 400),
        ("GET", "/cb?code=C&state=the-state%20", 400),
        ("GET", "/cb?code=C&State=the-state", 400),
        ("HEAD", "/cb?code=C&state=the-state", 405),
        ("POST", "/cb?code=C&state=the-state", 405),
        ("OPTIONS", "/cb?code=C&state=the-state", 405),
    ],
)
async def test_other_visits_do_not_end_the_wait(method: str, path: str, status: int) -> None:
    async with expecting("http://127.0.0.1:0/cb") as listener:
        base = listener.redirect_uri.removesuffix("/cb")

        assert (await fetched(base + path, method)).status == status
        with pytest.raises(AuthorizationFailed, match="nobody came back"):
            await listener.wait(0.01)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "localhost:{port}", "127.0.0.1", "", "[::1]:1"]
)
async def test_a_name_that_was_pointed_here_is_none_of_ours(host: str) -> None:
    async with expecting("http://127.0.0.1/cb") as listener:
        url = f"{listener.redirect_uri}?code=C&state=the-state"
        port = urlsplit(url).port

        assert (await fetched(url, host=host.format(port=port))).status == 400
        with pytest.raises(AuthorizationFailed, match="nobody came back"):
            await listener.wait(0.01)


async def test_nobody_is_believed_before_the_login_has_begun() -> None:
    async with CallbackListener("http://127.0.0.1/cb").listening() as listener:
        assert (await fetched(f"{listener.redirect_uri}?code=C&state=")).status == 400
        assert (await fetched(f"{listener.redirect_uri}?code=C&state=None")).status == 400


async def test_a_stranger_does_not_keep_the_answer_away() -> None:
    page = Page()
    async with (
        anyio.create_task_group() as group,
        expecting("http://127.0.0.1/cb") as listener,
    ):
        assert (await fetched(f"{listener.redirect_uri}?error=x&state=y")).status == 400
        group.start_soon(page.open, f"{listener.redirect_uri}?code=C&state=the-state")

        assert await listener.wait(5) == "code=C&state=the-state"
        listener.tell("Login done", "Done")

    assert page.status == 200


async def test_a_refusal_ends_the_wait_too() -> None:
    async with (
        anyio.create_task_group() as group,
        expecting("http://127.0.0.1") as listener,
    ):
        group.start_soon(
            Page().open, f"{listener.redirect_uri}?error=access_denied&state=the-state"
        )

        assert await listener.wait(5) == "error=access_denied&state=the-state"
        listener.tell("Login failed", "refused")


async def test_a_registered_port_is_listened_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}/cb"

    async with CallbackListener(uri).listening() as listener:
        assert listener.redirect_uri == uri


@pytest.mark.parametrize("uri", ["http://127.0.0.1/cb?x=1", "http://localhost:0/cb"])
async def test_a_missing_port_is_chosen(uri: str) -> None:
    async with CallbackListener(uri).listening() as listener:
        parts = urlsplit(listener.redirect_uri)

        assert parts.port
        assert parts.hostname == urlsplit(uri).hostname
        assert parts.query == urlsplit(uri).query
        assert (await fetched(f"http://127.0.0.1:{parts.port}/cb")).status == 400


async def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(AuthorizationFailed, match=rf"{host}:{port} .*in use.*--no-browser"):
                async with CallbackListener(f"http://{host}:{port}/cb").listening():
                    pass


def has_both_families() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


needs_both = pytest.mark.skipif(not has_both_families(), reason="this machine has no IPv6")


@needs_both
async def test_localhost_is_listened_on_in_both_families() -> None:
    async with expecting("http://localhost/cb") as listener:
        port = urlsplit(listener.redirect_uri).port
        for address in ("127.0.0.1", "[::1]"):
            host = f"localhost:{port}"
            assert (await fetched(f"http://{address}:{port}/cb", host=host)).status == 400


@needs_both
async def test_localhost_is_refused_where_somebody_has_half_of_it() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AuthorizationFailed, match=rf"localhost:{port} .*in use"):
            async with CallbackListener(f"http://localhost:{port}/cb").listening():
                pass
        with socket.create_server(("127.0.0.1", port)):
            pass


@needs_both
async def test_a_port_that_is_free_in_both_families_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ports, real = [], socket.create_server

    def create_server(address: tuple[str, int], **options: Any) -> socket.socket:
        ports.append(address[1])
        if len(ports) == 2:
            raise OSError(errno.EADDRINUSE, "taken by a stranger")
        return real(address, **options)

    monkeypatch.setattr(socket, "create_server", create_server)
    async with CallbackListener("http://localhost/cb").listening() as listener:
        assert ports == [0, ports[1], 0, urlsplit(listener.redirect_uri).port]


async def test_another_machine_is_not_listened_for() -> None:
    with pytest.raises(AuthorizationFailed, match="does not lead to this machine"):
        async with CallbackListener("https://app.example/cb").listening():
            pass


async def test_the_port_is_free_afterwards() -> None:
    async with CallbackListener("http://127.0.0.1/cb").listening() as listener:
        port = urlsplit(listener.redirect_uri).port

    async with CallbackListener(f"http://127.0.0.1:{port}/cb").listening():
        pass
