"""Canaries are planted in every place a secret can be and looked for in all that comes out."""

import asyncio
import gc
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from refresher.domain.clients import Revocation
from refresher.domain.outcomes import Outcome
from refresher.domain.quirks import ClientAuthentication, Placement
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth.patience import Patience
from refresher.oauth.revocation import revoke
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.oauth.world import (
    ACCESS_TOKEN,
    CANARIES,
    CODE,
    PROXY_PASSWORD,
    REFRESH_TOKEN,
    VERIFIER,
    RawServer,
    http_answer,
    make_client,
    serving,
)

ECHO = dict.fromkeys(("error", "error_description", "message", "code", "x"), REFRESH_TOKEN)

ANSWERS = [
    http_answer({**ECHO}, 400),
    http_answer({**ECHO, "access_token": ACCESS_TOKEN, "expires_in": REFRESH_TOKEN}),
    http_answer({**ECHO, "refresh_token": [REFRESH_TOKEN], "error": {"code": REFRESH_TOKEN}}),
    http_answer(json.dumps(ECHO).encode()[:-9]),
    http_answer(REFRESH_TOKEN.encode(), 302, {"Location": f"/?x={REFRESH_TOKEN}"}),
    http_answer(REFRESH_TOKEN.encode(), 429, {"Retry-After": REFRESH_TOKEN}),
    http_answer(REFRESH_TOKEN.encode(), 502),
    http_answer(b"{", length=90),
    f"HTTP/1.1 {REFRESH_TOKEN}\r\n\r\n".encode(),
    b"",
]


@pytest.fixture
def everything_logged() -> Iterator[io.StringIO]:
    """All that any library logs, at every level, and what asyncio complains about."""
    stream = io.StringIO()
    handler, root = logging.StreamHandler(stream), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


async def exchanges(url: str, **client: Any) -> list[object]:
    """What becomes of a refresh, a login and a revocation with secrets everywhere."""
    app = make_client(
        url,
        client_authentication=ClientAuthentication.POST,
        placement=Placement.QUERY,
        revocation=Revocation(endpoint=url, placement=Placement.QUERY),
        **client,
    )
    token = Secret(REFRESH_TOKEN)
    async with TokenEndpoint() as endpoint:
        outcomes: list[Outcome] = [
            await endpoint.refresh(app, RefreshToken(token), patience=Patience(0.2)),
            await endpoint.redeem(
                app,
                Secret(CODE),
                redirect_uri="http://127.0.0.1/cb",
                code_verifier=Secret(VERIFIER),
                patience=Patience(0.2),
            ),
        ]
        result = await revoke(endpoint, app, refresh_token=token, access_token=None, deadline=0.2)
    return [app, *outcomes, result]


def assert_silent(found: list[object], log: io.StringIO, capfd: pytest.CaptureFixture[str]) -> None:
    gc.collect()  # unclosed connections and unretrieved exceptions speak up now
    out, err = capfd.readouterr()
    text = "".join([repr(found), log.getvalue(), out, err])
    assert [canary for canary in CANARIES if canary in text] == []


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
async def test_no_answer_makes_a_secret_show(
    answer: bytes, everything_logged: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    asyncio.get_running_loop().set_debug(True)

    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await raw.read_request(reader)
        writer.write(answer)

    async with serving(handle) as raw:
        found = await exchanges(raw.url)

    asyncio.get_running_loop().set_debug(False)
    assert REFRESH_TOKEN.encode() in raw.requests[0]
    assert_silent(found, everything_logged, capfd)


@pytest.mark.parametrize(
    "client",
    [
        {},
        {"proxy": f"http://user:{PROXY_PASSWORD}@127.0.0.1:9"},
        {"proxy": f"http://user:{PROXY_PASSWORD}@[::1"},
        {"ca_bundle": "/nowhere"},
    ],
    ids=["direct", "proxy", "bad proxy", "bundle"],
)
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/", "https://127.0.0.1:9/", "http://no-such.invalid/", "bad://"]
)
async def test_no_transport_fault_makes_a_secret_show(
    url: str,
    client: dict[str, Any],
    everything_logged: io.StringIO,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert_silent(await exchanges(url, **client), everything_logged, capfd)


async def test_cancellation_makes_no_secret_show(
    everything_logged: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    arrived = asyncio.Event()

    async def handle(raw: RawServer, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await raw.read_request(reader)
        arrived.set()
        await reader.read()

    async with serving(handle) as raw:
        task = asyncio.create_task(exchanges(raw.url))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task

    assert_silent([caught.value], everything_logged, capfd)
