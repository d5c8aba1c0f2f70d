import asyncio
from pathlib import Path

import anyio
import pytest

from refresher.demo.private_server import free_port
from refresher.domain.outcomes import (
    Misconfigured,
    Outcome,
    Refreshed,
)
from refresher.domain.quirks import ClientAuthentication
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.oauth.world import (
    TOKENS,
    RawServer,
    answering,
    http_answer,
    make_client,
    refreshed,
    serving,
)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with (
        answering(http_answer(TOKENS)) as other,
        answering(http_answer(b"", status, {"Location": other.url})) as raw,
    ):
        outcome = await refreshed(raw.url)

    assert outcome == Misconfigured(error="redirected:/token", status=status)
    assert other.requests == []


async def test_the_environment_sends_nothing_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login user password foreign\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    async with answering(http_answer(TOKENS)) as raw:
        outcome = await refreshed(raw.url, client_authentication=ClientAuthentication.NONE)

    assert isinstance(outcome, Refreshed)
    assert "authorization" not in raw.last[1]


async def test_cookies_are_not_kept() -> None:
    answer = http_answer(TOKENS, headers={"Set-Cookie": "session=1; Path=/"})
    async with answering(answer) as raw, TokenEndpoint() as endpoint:
        named = raw.url.replace("127.0.0.1", "localhost")  # cookies are for names
        for _ in range(2):
            await endpoint.refresh(
                make_client(named), RefreshToken(Secret("RT")), patience=Patience(5)
            )

        assert len(raw.requests) == 2
        assert "cookie" not in raw.last[1]


async def test_connections_are_used_again() -> None:
    async with answering(http_answer(TOKENS)) as raw, TokenEndpoint() as endpoint:
        for _ in range(5):
            await endpoint.refresh(
                make_client(raw.url), RefreshToken(Secret("RT")), patience=Patience(5)
            )

    assert len(raw.requests) == 5
    assert raw.connections == 1


async def test_an_idle_connection_closed_is_not_used() -> None:
    closed = asyncio.Event()

    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await raw.read_request(reader)
        writer.write(http_answer(TOKENS))
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with serving(handle) as raw, TokenEndpoint() as endpoint:
        first = await endpoint.refresh(
            make_client(raw.url), RefreshToken(Secret("RT")), patience=Patience(5)
        )
        await closed.wait()
        second = await endpoint.refresh(
            make_client(raw.url), RefreshToken(Secret("RT")), patience=Patience(5)
        )

    assert isinstance(first, Refreshed)
    assert isinstance(second, Refreshed)
    assert raw.connections == 2


async def test_a_cancelled_exchange_breaks_nothing() -> None:
    arrived = asyncio.Event()

    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await raw.read_request(reader)
        if len(raw.requests) == 1:
            arrived.set()
            await reader.read()
        writer.write(http_answer(TOKENS))

    async with serving(handle) as raw, TokenEndpoint() as endpoint:
        client = make_client(raw.url)
        task = asyncio.create_task(
            endpoint.refresh(client, RefreshToken(Secret("RT")), patience=Patience(5))
        )
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert isinstance(
            await endpoint.refresh(client, RefreshToken(Secret("RT")), patience=Patience(5)),
            Refreshed,
        )


async def test_many_exchanges_run_side_by_side() -> None:
    outcomes: list[Outcome] = []

    async def one(endpoint: TokenEndpoint, url: str) -> None:
        outcomes.append(
            await endpoint.refresh(
                make_client(url), RefreshToken(Secret("RT")), patience=Patience(5)
            )
        )

    async with (
        answering(http_answer(TOKENS)) as raw,
        TokenEndpoint() as endpoint,
        anyio.create_task_group() as group,
    ):
        for _ in range(20):
            group.start_soon(one, endpoint, raw.url)

    assert [type(outcome) for outcome in outcomes] == [Refreshed] * 20
