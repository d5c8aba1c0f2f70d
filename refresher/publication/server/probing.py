"""Looking at a Redis: connection, rights, tracking, memory, clock. Nothing of a grant changes.

What is written is written to keys of a name that no grant may have, and deleted again.
"""

from collections.abc import AsyncIterator

import anyio

from refresher.clock import Clock
from refresher.domain.findings import Finding, Level
from refresher.errors import PublicationUnavailable
from refresher.publication.keys import DAEMON_LIFE, Keys
from refresher.publication.server.clock import measure
from refresher.publication.server.connection import Command, Server
from refresher.publication.server.doubts import CLOCK_TOLERANCE, losses
from refresher.publication.server.faults import Refused, unavailable
from refresher.publication.server.info import read_info
from refresher.publication.server.masters import Masters
from refresher.publication.server.tracking import watch
from refresher.times import duration

NAME = "/check"
"""No grant can be named so."""

NO_TRACKING = "it refuses CLIENT TRACKING, so losses are found by slow walks only"


async def probe(server: Masters, keys: Keys, clock: Clock) -> AsyncIterator[Finding]:
    """What there is to say of SERVER, a step at a time; none follows one that failed."""
    subject = f"Redis at {server.where}"
    try:
        await server.find()
        for finding in await server.survey():
            yield finding
        subject = f"Redis at {server.where}"
        infos = {master: await _info(master) for master in server.masters}
        for master, info in infos.items():
            version = (
                info.get("valkey_version") or info.get("redis_version") or "of unknown version"
            )
            yield Finding(subject=f"Redis at {master.where}", text=f"answers, version {version}")
        missing = await _missing(server, keys)
        for text in missing:
            yield Finding(
                subject=subject,
                text=text.removeprefix(f"{subject}: "),
                level=Level.PROBLEM,
                mend="give the user what deploy/redis-acl.conf gives `refresher`",
            )
        if not missing:
            yield Finding(subject=subject, text="its user has the rights it needs")
        for master, info in infos.items():
            subject = f"Redis at {master.where}"
            yield await _tracking(master, keys, subject)
            for text in losses(info):
                yield Finding(
                    subject=subject,
                    text=text,
                    level=Level.DOUBT,
                    mend="set maxmemory-policy noeviction, and maxmemory above what is stored",
                )
            yield await _clock(master, clock, subject)
    except PublicationUnavailable as error:
        yield Finding(
            subject=subject,
            text=str(error).removeprefix(f"{subject}: "),
            level=Level.PROBLEM,
            mend="check redis.url, redis.username and redis.password, and the server's own log",
        )


async def _info(master: Server) -> dict[str, str]:
    await master.execute("PING")
    return await read_info(master, "server", "memory", "stats")


def _commands(keys: Keys) -> list[Command]:
    """One of each kind that publishing takes; those on missing keys change nothing."""
    probe, token, status = keys.daemon(NAME), keys.token(NAME), keys.status(NAME)
    return [
        ("HSET", probe, "version", "check"),
        ("EXPIRE", probe, DAEMON_LIFE),
        ("PEXPIRE", probe, DAEMON_LIFE * 1000),
        ("HGET", probe, "version"),
        ("HMGET", probe, "version"),
        ("HGETALL", probe),
        ("PTTL", probe),
        ("TYPE", probe),
        ("DEL", probe),
        ("EXISTS", token),
        ("DEL", token),
        ("DEL", status),
        ("XADD", keys.events + NAME, "NOMKSTREAM", "*", "state", "none"),
        ("XLEN", keys.events),
        ("XDEL", keys.events, "0-1"),
        ("XRANGE", keys.requests, "-", "+", "COUNT", 1),
        ("XDEL", keys.requests, "0-1"),
        ("GETRANGE", keys.rejected(NAME), 0, 19),
        ("DEL", keys.rejected(NAME)),
        ("EVALSHA", "0" * 40, 1, probe),
        ("PUBLISH", token, '{"state":"removed"}'),
    ]


def _of_each(keys: Keys) -> list[Command]:
    """Those that each master is asked, without a key."""
    scan: Command = ("SCAN", 0, "MATCH", f"{keys.tokens}*", "COUNT", 1)
    return [scan, ("SCRIPT", "LOAD", "return 1"), ("TIME",)]


async def _missing(server: Masters, keys: Keys) -> list[str]:
    """What Redis forbids, each once."""
    replies = await server.pipeline(_commands(keys))
    for master in server.masters:
        replies += await master.pipeline(_of_each(keys))
    refusals = [
        unavailable(reply, server.where) for reply in replies if isinstance(reply, Exception)
    ]
    told = [
        str(one)
        for one in refusals
        if not isinstance(one, Refused) or one.code != "NOSCRIPT"  # allowed, and unknown as meant
    ]
    return list(dict.fromkeys(told))


async def _tracking(server: Server, keys: Keys, subject: str) -> Finding:
    """Whether changes by others are heard at once."""

    def ignore(_: str | None) -> None:
        """Nothing follows a change while this looks."""

    async with anyio.create_task_group() as tasks:
        is_on: bool = await tasks.start(watch, server, keys, ignore, ignore)
        tasks.cancel_scope.cancel()
    if is_on:
        return Finding(subject=subject, text="it tells at once what others change (tracking)")
    return Finding(
        subject=subject,
        text=NO_TRACKING,
        level=Level.DOUBT,
        mend="give the user +client|tracking; a proxy in between may refuse it too",
    )


async def _clock(server: Server, clock: Clock, subject: str) -> Finding:
    offset = await measure(server, clock)
    apart = abs(offset.seconds) - offset.uncertainty
    if apart <= CLOCK_TOLERANCE:
        return Finding(subject=subject, text="its clock and ours agree")
    return Finding(
        subject=subject,
        text=f"its clock is {duration(abs(offset.seconds))} "
        f"{'ahead of' if offset.seconds > 0 else 'behind'} ours",
        level=Level.DOUBT,
        mend="set both clocks by NTP; replicas expire keys by their own clock",
    )
