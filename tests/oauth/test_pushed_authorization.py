"""Pushed authorization requests: what is sent, what the browser carries, what faults say."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from refresher.demo.private_server import free_port
from refresher.domain.discovery import Discovery
from refresher.errors import AuthorizationFailed
from refresher.oauth.authorization import AuthorizationRequest, begin
from refresher.oauth.pushed_authorization import push
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.oauth.world import CLIENT_SECRET, answering, http_answer, make_client

REDIRECT = "http://127.0.0.1:8400/cb"
REFERENCE = "urn:ietf:params:oauth:request_uri:canary-reference"
TAKEN = http_answer({"request_uri": REFERENCE, "expires_in": 60}, 201)


async def pushed(url: str | None, **told: Any) -> tuple[AuthorizationRequest, AuthorizationRequest]:
    parts: dict[str, Any] = {
        "authorization_endpoint": "https://as.example/authorize?a=b",
        "pushed_authorization_request_endpoint": url,
        "resource": "https://api.example/mcp",
        **told,
    }
    client = make_client(**parts)
    request = begin(client, redirect_uri=REDIRECT, scope=("read",))
    async with TokenEndpoint() as endpoint:
        return request, await push(endpoint, client, request)


async def test_the_browser_carries_a_reference_alone() -> None:
    async with answering(TAKEN) as raw:
        before, after = await pushed(raw.url)
        line, headers, body = raw.last
    assert line == "POST /token HTTP/1.1"
    assert headers["authorization"].startswith("Basic ")
    sent = {name: values[0] for name, values in parse_qs(body).items()}
    assert sent == dict(before.parameters)
    assert sent["state"] == after.awaited.state.reveal() == before.awaited.state.reveal()
    assert (sent["resource"], sent["scope"]) == ("https://api.example/mcp", "read")
    assert {"code_challenge", "redirect_uri", "client_id"} <= sent.keys()
    assert CLIENT_SECRET not in body
    parts = urlsplit(after.url)
    assert parse_qs(parts.query) == {"a": ["b"], "client_id": ["id"], "request_uri": [REFERENCE]}
    assert "canary" not in repr(after)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http_answer({"error": "invalid_client"}, 401), "check client_id and client_secret"),
        (http_answer({"error": "invalid_scope"}, 400), "check `scope`"),
        (http_answer({"error": "invalid_target"}, 400), "check `resource`"),
        (http_answer({"error": "redirect_uri_mismatch"}, 400), "register it at the server"),
        (http_answer({"error": "use_dpop_nonce"}, 400), "DPoP"),
        (http_answer({"error": "temporarily_unavailable"}, 400), "again later"),
        (http_answer(b"", 404), "check pushed_authorization_request_endpoint"),
        (http_answer(b"", 503), "the server fails"),
        (http_answer({"expires_in": 60}, 201), "gave no request_uri"),
        (http_answer({"request_uri": "a b"}, 201), "gave no request_uri"),
        (http_answer(b"", 302, {"Location": "/canary"}), "answers with 302"),
    ],
)
async def test_faults_are_said_in_words(answer: bytes, words: str) -> None:
    async with answering(answer) as raw:
        with pytest.raises(AuthorizationFailed) as failed:
            await pushed(raw.url)
    assert words in str(failed.value)
    assert "canary" not in str(failed.value)


async def test_without_an_endpoint_or_an_id_nothing_is_sent() -> None:
    with pytest.raises(AuthorizationFailed, match="endpoint is known: set it, or its issuer"):
        await pushed(None)
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(AuthorizationFailed, match="did not reach its server"):
        await pushed(url)
    with pytest.raises(AuthorizationFailed, match="refresher register app"):
        await pushed(url, client_id="", discovery=Discovery())
