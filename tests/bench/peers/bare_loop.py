"""The bare loop: nothing but the POST, by aiohttp on uvloop, tuned; nothing is kept."""

import asyncio
import json

import aiohttp
import uvloop

from tests.bench.peers.work import CLIENT_ID, CLIENT_SECRET, Memory, Work, read_work

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
CREDENTIALS = f"&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}"


async def refresh_for_ever(
    session: aiohttp.ClientSession, work: Work, memory: Memory, worker: int
) -> None:
    """One exchange after the other, for one worker's share of the grants."""
    while True:
        for number in work.share(worker):
            # Encoded by hand: the tokens have no character that a form must escape.
            presented = memory.refresh_token(number)
            body = f"grant_type=refresh_token&refresh_token={presented}{CREDENTIALS}"
            async with session.post(work.token_url, data=body.encode(), headers=FORM) as response:
                memory.keep(number, json.loads(await response.read()))


async def main() -> None:
    """Work until the process is ended."""
    work = read_work()
    memory = Memory(work)
    connector = aiohttp.TCPConnector(limit=work.in_flight)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as tasks:
        for worker in range(work.in_flight):
            tasks.create_task(refresh_for_ever(session, work, memory, worker))


if __name__ == "__main__":
    uvloop.run(main())
