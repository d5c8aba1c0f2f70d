"""A visitor of the protected resource: shows an access token and learns whether it is good."""

from types import TracebackType
from typing import Self

import aiohttp


class Visitor:
    """Visits one resource over a connection of its own."""

    def __init__(self, resource_url: str) -> None:
        self._url = resource_url

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def is_accepted(self, authorization: str) -> bool:
        """Whether the resource answers to the Authorization header AUTHORIZATION."""
        headers = {"Authorization": authorization}
        async with self._session.get(self._url, headers=headers) as response:
            await response.read()
            return response.ok
