"""Asking a server when a token ends (RFC 7662)."""

from typing import Any
from urllib.parse import parse_qs

import pytest

from refresher.domain.secret import Secret
from refresher.oauth.introspection import introspect
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.oauth.world import answering, http_answer, make_client

NOW = 1_800_000_000.0


async def told(url: str) -> float | str:
    async with TokenEndpoint() as endpoint:
        return await introspect(
            endpoint, make_client(introspection=url), Secret("AT"), now=NOW, deadline=5
        )


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"active": True, "exp": NOW + 600}, NOW + 600),
        (200, {"active": True, "exp": str(int(NOW + 600))}, NOW + 600),
        (200, {"active": True, "exp": NOW - 1}, "no_end"),
        (200, {"active": True, "exp": NOW + 1e9}, "no_end"),
        (200, {"active": True}, "no_end"),
        (200, {"active": False, "exp": NOW + 600}, "inactive"),
        (200, b"<html>", "unreadable"),
        (401, {"error": "invalid_client"}, "http_401"),
    ],
)
async def test_each_answer_has_one_meaning(status: int, body: Any, expected: float | str) -> None:
    async with answering(http_answer(body, status=status)) as raw:
        assert await told(raw.url) == expected
        _, headers, sent = raw.last
    assert parse_qs(sent) == {"token": ["AT"], "token_type_hint": ["access_token"]}
    assert headers["authorization"].startswith("Basic ")


async def test_an_unreachable_server_is_a_word() -> None:
    assert await told("http://127.0.0.1:1/") == "refused"
