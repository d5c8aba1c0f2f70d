"""A plain client of the sandbox: raw aiohttp, nothing of refresher's own."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp

from refresher.sandbox import Sandbox


@dataclass(frozen=True)
class Reply:
    """One HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


async def post(
    url: str,
    data: Mapping[str, str] | str | None = None,
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """One POST on a connection of its own; redirects are not followed."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            url, data=data, params=query, headers=headers, allow_redirects=False
        ) as response,
    ):
        return Reply(response.status, response.headers, await response.read())


async def get(
    url: str,
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """One GET on a connection of its own; redirects are not followed."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, params=query, headers=headers, allow_redirects=False) as response,
    ):
        return Reply(response.status, response.headers, await response.read())


async def refresh(sandbox: Sandbox, refresh_token: str, **changes: str) -> Reply:
    """A refresh token grant with the sandbox's own client."""
    form = {
        "grant_type": "refresh_token",
        "refresh_token": refresh_token,
        "client_id": sandbox.options.client_id,
        "client_secret": sandbox.options.client_secret,
        **changes,
    }
    return await post(sandbox.token_endpoint, form)


async def resource_status(sandbox: Sandbox, access_token: str) -> int:
    headers = {"Authorization": f"Bearer {access_token}"}
    return (await get(sandbox.resource_url, headers=headers)).status


def redirect_parameters(reply: Reply) -> dict[str, str]:
    """The query of the place a 302 sends the browser to."""
    assert reply.status == 302
    return dict(parse_qsl(urlsplit(reply.headers["Location"]).query))
