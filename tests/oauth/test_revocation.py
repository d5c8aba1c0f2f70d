import asyncio
import dataclasses
from typing import Any
from urllib.parse import parse_qs, quote

import pytest

from refresher.domain.clients import Revocation, TokenCarrier
from refresher.domain.quirks import ClientAuthentication, Placement
from refresher.domain.secret import Secret
from refresher.oauth.revocation import (
    RevocationResult,
    by_access_token,
    is_revocable,
    revoke,
)
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.oauth.world import RawServer, answering, http_answer, make_client, serving

SURVILLA = Revocation(
    endpoint="",
    parameter="access_token",
    token="access_token",
    placement=Placement.QUERY,
    authenticated=False,
    success_field="success",
)


async def result_of(
    url: str, revocation: Revocation | None = None, **tokens: Secret | None
) -> RevocationResult:
    chosen = dataclasses.replace(revocation or Revocation(endpoint=""), endpoint=url)
    both = {"refresh_token": Secret("RT"), "access_token": Secret("AT"), **tokens}
    async with TokenEndpoint() as endpoint:
        return await revoke(endpoint, make_client(revocation=chosen), deadline=5, **both)


async def test_the_refresh_token_is_revoked_by_rfc_7009() -> None:
    async with answering(http_answer(b"")) as raw:
        assert await result_of(raw.url) is RevocationResult.REVOKED
        _, headers, body = raw.last

    assert parse_qs(body) == {"token": ["RT"], "token_type_hint": ["refresh_token"]}
    assert headers["authorization"].startswith("Basic ")


async def test_a_provider_may_want_it_otherwise() -> None:
    async with answering(http_answer({"success": True})) as raw:
        assert await result_of(raw.url, SURVILLA) is RevocationResult.REVOKED
        line, headers, body = raw.last

    assert line == "POST /token?access_token=AT HTTP/1.1"
    assert "authorization" not in headers
    assert body == ""


PATH = Revocation(endpoint="", method="DELETE", carrier=TokenCarrier.PATH, authenticated=False)
BEARER = Revocation(
    endpoint="",
    method="DELETE",
    carrier=TokenCarrier.BEARER,
    token="access_token",
    authenticated=False,
)
DROPBOX = dataclasses.replace(BEARER, method="POST", placement=Placement.JSON)
OWN = Revocation(
    endpoint="",
    method="DELETE",
    parameter="access_token",
    token="access_token",
    placement=Placement.JSON,
    client_authentication=ClientAuthentication.BASIC,
)


@pytest.mark.parametrize(
    ("revocation", "line", "authorization", "sent"),
    [
        (PATH, "DELETE /token/R%2FT HTTP/1.1", None, ""),
        (BEARER, "DELETE /token HTTP/1.1", "Bearer AT", ""),
        (DROPBOX, "POST /token HTTP/1.1", "Bearer AT", "null"),
        (OWN, "DELETE /token HTTP/1.1", "Basic ", '{"access_token": "AT"}'),
    ],
    ids=["HubSpot", "Canvas", "Dropbox", "GitHub"],
)
async def test_a_token_may_be_revoked_in_other_ways(
    revocation: Revocation, line: str, authorization: str | None, sent: str
) -> None:
    async with answering(http_answer(b"", status=204)) as raw:
        result = await result_of(raw.url, revocation, refresh_token=Secret("R/T"))
        assert result is RevocationResult.REVOKED
        first, headers, body = raw.last
    assert (first, body) == (line, sent)
    if authorization is None:
        assert "authorization" not in headers
    else:
        assert headers["authorization"].startswith(authorization)


async def test_the_client_may_be_named_in_the_url() -> None:
    async with answering(http_answer(b"")) as raw:
        await result_of(f"{raw.url}/CLIENT_ID/grant", OWN)
        line, _, _ = raw.last
    assert line == f"DELETE /token/{quote(make_client().client_id)}/grant HTTP/1.1"


@pytest.mark.parametrize(
    ("status", "body", "field", "expected"),
    [
        (200, b"", None, RevocationResult.REVOKED),
        (204, b"", None, RevocationResult.REVOKED),
        (400, {"error": "unsupported_token_type"}, None, RevocationResult.REFUSED),
        (401, {"error": "invalid_client"}, None, RevocationResult.REFUSED),
        (302, b"", None, RevocationResult.REFUSED),
        (503, b"", None, RevocationResult.UNKNOWN),
        (200, {"success": False, "message": "m"}, "success", RevocationResult.REFUSED),
        (200, {"message": "m"}, "success", RevocationResult.UNKNOWN),
        (200, {"success": "yes"}, "success", RevocationResult.UNKNOWN),
        (200, b"<html>", "success", RevocationResult.UNKNOWN),
    ],
)
async def test_each_answer_has_one_result(
    status: int, body: bytes | dict[str, Any], field: str | None, expected: RevocationResult
) -> None:
    async with answering(http_answer(body, status)) as raw:
        assert await result_of(raw.url, Revocation(endpoint="", success_field=field)) is expected


async def test_a_lost_answer_is_unknown() -> None:
    async def handle(raw: RawServer, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await raw.read_request(reader)

    async with serving(handle) as raw:
        assert await result_of(raw.url) is RevocationResult.UNKNOWN


@pytest.mark.parametrize("url", ["http://no-such-host.invalid/", "nonsense"])
async def test_an_unreachable_endpoint_got_nothing(url: str) -> None:
    assert await result_of(url) is RevocationResult.NOT_SENT


async def test_a_missing_token_is_told() -> None:
    assert await result_of("http://x/", refresh_token=None) is RevocationResult.NO_TOKEN
    assert await result_of("http://x/", SURVILLA, access_token=None) is RevocationResult.NO_TOKEN


async def test_a_provider_without_revocation_is_told() -> None:
    async with TokenEndpoint() as endpoint:
        result = await revoke(
            endpoint, make_client(), refresh_token=Secret("RT"), access_token=None, deadline=5
        )

    assert result is RevocationResult.UNSUPPORTED


async def test_an_access_token_alone_is_revoked_by_rfc_7009() -> None:
    async with answering(http_answer(b"")) as raw:
        client = by_access_token(make_client(revocation=Revocation(endpoint=raw.url)))
        async with TokenEndpoint() as endpoint:
            result = await revoke(
                endpoint, client, refresh_token=None, access_token=Secret("AT"), deadline=5
            )
        assert result is RevocationResult.REVOKED
        _, _, body = raw.last

    assert parse_qs(body) == {"token": ["AT"], "token_type_hint": ["access_token"]}


@pytest.mark.parametrize(
    ("revocation", "refresh_token", "access_token", "expected"),
    [
        (Revocation(endpoint="x"), Secret("RT"), None, True),
        (Revocation(endpoint="x"), None, Secret("AT"), True),
        (Revocation(endpoint="x"), None, None, False),
        (SURVILLA, Secret("RT"), None, False),
        (SURVILLA, None, Secret("AT"), True),
        (Revocation(endpoint="x", parameter="refresh_token"), None, Secret("AT"), False),
        (None, Secret("RT"), Secret("AT"), False),
    ],
)
def test_what_can_be_revoked(
    revocation: Revocation | None,
    refresh_token: Secret | None,
    access_token: Secret | None,
    *,
    expected: bool,
) -> None:
    client = make_client(revocation=revocation)
    if refresh_token is None:
        client = by_access_token(client)
    assert is_revocable(client, refresh_token, access_token) is expected
