"""What is measured: a rate that is known, one that is learned, a day away, and a day's quota."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from refresher.publication.keys import Keys
from refresher.sandbox import Sandbox, SandboxOptions
from refresher.sandbox.exchange_log import ExchangeRecord
from tests.bench.servers import connect
from tests.limits.ground import NAMES, Ground, Quota, ground_in

SPARE = 1.05
"""What the server takes, in parts of what the settings say: requests bunch on their way."""

LATENCY = (0.02, 0.2)

LIFE, DAY, DAYS = 20.0, 60.0, 3
"""Seconds that tokens live, and that the day of their quota has; and how many of those. Both
are as far apart as those of a token that lives eight hours, of which a day sees as many."""

EXCHANGES_A_DAY = 7
"""Of one grant: it is refreshed after half of its life at the earliest."""

LIFE_AT_A_RATE, AWAY = 60.0, 65.0
"""Seconds that tokens live where the rate counts, and of a downtime that none of them outlives."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the server has seen."""

    sent: int
    allowed: float
    """What it would have taken in that time."""
    refused: int
    seconds: float
    by_replica: dict[str, int]
    fullest_second: int
    """Requests in the second that had most."""
    unreadable: int = 0
    """Tokens that could not be read when they were looked for."""


def measured(log: Sequence[ExchangeRecord], rate: float) -> Measured:
    arrived = sorted(one.arrived_at for one in log)
    seconds = arrived[-1] - arrived[0]
    by_replica = Counter(one.user_agent or "" for one in log)
    return Measured(
        sent=len(log),
        allowed=rate * (seconds + 1.0),  # a second's at once, and as many in each that follows
        refused=sum(one.status == 429 for one in log),
        seconds=seconds,
        by_replica={name: by_replica[name] for name in NAMES},
        fullest_second=max(
            sum(at <= other < at + 1.0 for other in arrived[place : place + 10_000])
            for place, at in enumerate(arrived)
        ),
    )


async def a_rate(folder: Path, grants: int, rate: float, *, is_known: bool) -> dict[str, Measured]:
    """All GRANTS due at once, at a server that takes RATE a second.

    Where the settings say the RATE, the same again after a time in which no daemon ran.
    """
    options = SandboxOptions(rate_limit=rate * (SPARE if is_known else 1.0), latency=LATENCY)
    async with Sandbox(options) as sandbox:
        more = f"rate = {rate:g}" if is_known else ""
        life = LIFE_AT_A_RATE if is_known else 3600.0
        async with ground_in(folder, sandbox, life=life, more=more) as ground:
            await ground.start()
            await ground.add(grants)
            first = measured(await ground.served(grants, 0), rate)
            if not is_known:
                await ground.stop()
                return {"learned": first}
            await ground.stop()
            await anyio.sleep(AWAY)
            since = len(sandbox.log)
            await ground.start()
            again = measured(await ground.served(grants, since), rate)
            await ground.stop()
    return {"known": first, "after downtime": again}


async def a_quota(folder: Path, grants: int) -> Measured:
    """So many GRANTS, kept for days by what one daemon would need."""
    quota = Quota(grants * EXCHANGES_A_DAY, DAY)
    async with Sandbox(SandboxOptions(latency=LATENCY)) as sandbox:
        sandbox.faults._limit = quota  # type: ignore[assignment]  # it judges as well
        async with ground_in(folder, sandbox, life=LIFE, more="") as ground:
            await ground.start()
            names = await ground.add(grants)
            await ground.served(grants, 0)
            unreadable = await _read_for(ground, names, DAY * DAYS)
            log = list(sandbox.log)
            await ground.stop()
    found = measured(log, 1.0)
    return Measured(
        sent=quota.most,
        allowed=grants * EXCHANGES_A_DAY,
        refused=found.refused,
        seconds=found.seconds,
        by_replica=found.by_replica,
        fullest_second=found.fullest_second,
        unreadable=unreadable,
    )


async def _read_for(ground: Ground, names: Sequence[str], seconds: float) -> int:
    """How many of the tokens NAMES could not be read, looked for each second for SECONDS."""
    redis, keys, missing = connect(ground.valkey), Keys(), set[str]()
    with anyio.move_on_after(seconds):
        await anyio.sleep(2.0)  # the last of them are on their way there
        while True:
            found = redis.exists(*(keys.token(name) for name in names))
            if found < len(names):
                missing |= {name for name in names if not redis.exists(keys.token(name))}
            await anyio.sleep(1.0)
    redis.close()
    return len(missing)


def measure(grants: int, rate: float, kept: int) -> dict[str, Measured]:
    """All of it: GRANTS at a server's RATE, and KEPT by its quota."""
    found: dict[str, Measured] = {}
    with TemporaryDirectory(prefix="refresher-limits-") as name:
        folder = Path(name)
        for part in ("known", "learned", "quota"):
            (folder / part).mkdir()
        found |= anyio.run(lambda: a_rate(folder / "known", grants, rate, is_known=True))
        found |= anyio.run(lambda: a_rate(folder / "learned", grants, rate, is_known=False))
        found["quota"] = anyio.run(a_quota, folder / "quota", kept)
    return found


def is_well(found: dict[str, Measured]) -> bool:
    """Whether nothing was refused that the replicas could know of, and nothing was missing."""
    known = [one for part, one in found.items() if part != "learned"]
    return not any(one.refused or one.unreadable for one in known)
