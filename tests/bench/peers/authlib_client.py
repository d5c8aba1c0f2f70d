"""Authlib on a current httpx: a client for each task, and with a store also SET and PUBLISH."""

import asyncio
import json
from typing import Any

import redis.asyncio
from authlib.integrations.httpx_client import AsyncOAuth2Client

from tests.bench.peers.work import (
    CLIENT_ID,
    CLIENT_SECRET,
    Memory,
    Store,
    Work,
    read_work,
    store_of,
)


async def refresh_for_ever(server: Any, work: Work, store: Store | Memory, worker: int) -> None:
    """One refresh after the other, for one worker's share of the grants."""
    client = AsyncOAuth2Client(
        CLIENT_ID, CLIENT_SECRET, token_endpoint_auth_method="client_secret_post"
    )
    async with client:
        while True:
            for number in work.share(worker):
                presented = store.refresh_token(number)
                token = await client.refresh_token(work.token_url, refresh_token=presented)
                store.keep(number, token)
                if work.stores:
                    key, published = f"token:{number}", json.dumps(token)
                    await server.set(key, published, ex=token["expires_in"])
                    await server.publish(key, published)


async def main() -> None:
    """Work until the process is ended."""
    work = read_work()
    store = store_of(work)
    server = redis.asyncio.Redis.from_url(work.redis_url)
    async with asyncio.TaskGroup() as tasks:
        for worker in range(work.in_flight):
            tasks.create_task(refresh_for_ever(server, work, store, worker))


if __name__ == "__main__":
    asyncio.run(main())
