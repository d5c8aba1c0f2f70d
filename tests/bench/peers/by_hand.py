"""The minimal script by hand: aiohttp, sqlite3 with a commit each, then SET and PUBLISH."""

import asyncio
import json
from typing import Any

import aiohttp
import redis.asyncio

from tests.bench.peers.work import CLIENT_ID, CLIENT_SECRET, Store, Work, read_work


async def refresh_for_ever(
    session: aiohttp.ClientSession, server: Any, work: Work, store: Store, worker: int
) -> None:
    """One refresh after the other, for one worker's share of the grants."""
    while True:
        for number in work.share(worker):
            form = {
                "grant_type": "refresh_token",
                "refresh_token": store.refresh_token(number),
                "client_id": CLIENT_ID,
                "client_secret": CLIENT_SECRET,
            }
            async with session.post(work.token_url, data=form) as response:
                token = await response.json()
            store.keep(number, token)
            key, published = f"token:{number}", json.dumps(token)
            await server.set(key, published, ex=token["expires_in"])
            await server.publish(key, published)


async def main() -> None:
    """Work until the process is ended."""
    work = read_work()
    store = Store(work)
    server = redis.asyncio.Redis.from_url(work.redis_url)
    connector = aiohttp.TCPConnector(limit=work.in_flight)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as tasks:
        for worker in range(work.in_flight):
            tasks.create_task(refresh_for_ever(session, server, work, store, worker))


if __name__ == "__main__":
    asyncio.run(main())
