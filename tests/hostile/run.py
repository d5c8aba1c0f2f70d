"""One run: an honest client, hostile ones beside it, and what that did to it."""

import json
import math
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from tests.hostile.daemon import HANGS
from tests.hostile.servers import REFUSED
from tests.support.presence import LOOK_EVERY, Presence
from tests.support.rig import Rig
from tests.support.waiting import wait_until

CLIENTS, GRANTS = 4, 8
"""Of each kind; the more of them, the more hostile."""

LAG_FACTOR = 2.0
"""How much later than without hostile clients the loop may turn."""

HONEST = "honest"

KINDS: Mapping[str, str] = {
    "slow": "answer well, after 0.2 to 20 s, with tokens of 1 s",
    "interim": "say 100 Continue for ever",
    "trickle": "send a header byte by byte, for ever",
    "silent": "take the request and never answer",
    "empty": "refuse with 400 and an empty body",
    "broken": "answer 500",
    "half": "say unauthorized_client to half of their accounts",
    "connects": "have a full backlog: connecting hangs",
    "names": "have names for which the resolver hangs 40 s",
}
"""What the servers of each kind do."""

FLOODS: Mapping[str, str] = {
    "header": "never end a header line",
    "json": "send JSON that never closes in broken HTTP",
}
"""Kinds that make the loop read as much as an answer may have: up to 70 ms at a time, which
nobody loses a token to, and which the loop's lag shows."""

UNREACHED = ("connects", "names")
"""Kinds that no request reaches."""

CLIENT = """
[clients.{kind}-{number}]
token_endpoint = "{endpoint}"
client_id = "{kind}-{number}"
client_secret = "a-secret"
"""


@dataclass(frozen=True)
class Lag:
    """How late the loop was, in milliseconds."""

    p50: float
    p99: float
    p999: float
    longest: float
    samples: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Lag":
        """Of what was measured."""
        ordered = sorted(seconds)

        def at(share: float) -> float:
            return round(1000 * ordered[max(math.ceil(share * len(ordered)) - 1, 0)], 2)

        return cls(at(0.5), at(0.99), at(0.999), at(1.0), len(ordered))


@dataclass(frozen=True)
class Watched:
    """What was seen of one daemon."""

    presence: Presence
    lost: int
    honest_state: str
    """Of the honest grant, at the end."""
    honest_refreshes: int
    requests: Mapping[str, int]
    """Of hostile clients that arrived, or failed to connect, by kind."""
    lag: Lag


@dataclass(frozen=True)
class Outcome:
    """What the hostile clients did to the others."""

    seconds: float
    kinds: Mapping[str, str]
    hostile_grants: int
    looks: int
    honest_absent: int
    """Looks in which the honest token was not there."""
    healthy: int
    """Healthy accounts of the clients whose other accounts are refused."""
    healthy_absent: int
    """Looks in which the token of one of them was not there."""
    honest_refreshes: int
    honest_state: str
    lost: int
    requests: Mapping[str, int]
    lag: Lag
    control: Lag

    @property
    def is_apart(self) -> bool:
        """Whether nobody lost a token to the hostile ones, and each kind of them was there."""
        return (
            not (self.honest_absent or self.healthy_absent or self.lost)
            and self.honest_state == "fresh"
            and self.honest_refreshes > 0
            and all(self.requests[kind] for kind in self.kinds)
        )

    @property
    def is_prompt(self) -> bool:
        """Whether the loop turned nearly as promptly as without them."""
        return self.lag.p999 <= LAG_FACTOR * self.control.p999

    @property
    def is_flooded(self) -> bool:
        """Whether there were kinds under which the loop's lag is told, and not judged."""
        return bool(FLOODS.keys() & self.kinds.keys())

    @property
    def holds(self) -> bool:
        """Whether this is what guarantee G8 promises."""
        return self.is_apart and (self.is_prompt or self.is_flooded)


def run_hostile(
    folder: Path,
    seconds: float,
    *,
    control_seconds: float,
    lifetime: float = 20.0,
    kinds: Mapping[str, str] = KINDS,
) -> Outcome:
    """Watch a daemon without and with hostile clients for so many SECONDS.

    Args:
        control_seconds: of the run without them.
        lifetime: of the honest tokens, in seconds.
    """
    for name in ("control", "hostile"):
        (folder / name).mkdir()
    control = _watch(folder / "control", control_seconds, lifetime, {}, {})
    with _servers(lifetime) as ports:
        seen = _watch(folder / "hostile", seconds, lifetime, kinds, ports)
    healthy = _names("half", refused=False)
    return Outcome(
        seconds=seconds,
        kinds=kinds,
        hostile_grants=len(kinds) * CLIENTS * GRANTS - len(healthy),
        looks=seen.presence.looks,
        honest_absent=seen.presence.absent[HONEST],
        healthy=len(healthy),
        healthy_absent=sum(seen.presence.absent[name] for name in healthy),
        honest_refreshes=seen.honest_refreshes,
        honest_state=seen.honest_state,
        lost=seen.lost,
        requests=seen.requests,
        lag=seen.lag,
        control=control.lag,
    )


def _names(kind: str, *, refused: bool | None = None) -> list[str]:
    """The grants of KIND; of those that are half refused, one half or the other."""
    names = [f"{kind}-{client}-{grant}" for client in range(CLIENTS) for grant in range(GRANTS)]
    if refused is None:
        return names
    return [name for name in names if _is_refused(name) is refused]


def _is_refused(name: str) -> bool:
    return int(name.rpartition("-")[2]) % 2 == 1


def _watch(
    folder: Path,
    seconds: float,
    lifetime: float,
    kinds: Mapping[str, str],
    ports: Mapping[str, int],
) -> Watched:
    """One daemon with hostile clients of KINDS, whose servers listen at PORTS."""
    server = {"rotation": "strict", "access_token_lifetime": lifetime}
    with Rig(folder, rotation="strict", server=server) as rig:
        with rig.daemon.config.open("a") as settings:
            settings.write("".join(_sections(kinds, ports)))
        lags = folder / "lags.json"
        rig.daemon.start_measured(lags)
        wait_until(rig.daemon.ready_count, description="the daemon is ready")
        minted = rig.sandbox.mint(1)[0]["refresh_token"]
        _import(rig, [(HONEST, "box", minted)])
        with Redis.from_url(rig.valkey.url) as redis:
            _await_tokens(redis, [HONEST])
            _import(rig, [_line(name) for kind in kinds for name in _names(kind)])
            healthy = _names("half", refused=False) if "half" in kinds else []
            _await_tokens(redis, healthy)
            began, refreshed = time.monotonic(), len(rig.sandbox.log())
            presence = _look(redis, [HONEST, *healthy], seconds)
        requests: dict[str, int] = _asked(kinds, ports["port"]) if kinds else {}
        for kind in kinds.keys() & set(UNREACHED):
            requests[kind] = sum(
                line["client"].startswith(f"{kind}-") and line["error"] == "connect_timeout"
                for line in rig.daemon.events("exchange.failed")
            )
        return Watched(
            presence=presence,
            lost=rig.lost(),
            honest_state=next(g["state"] for g in rig.grants() if g["name"] == HONEST),
            honest_refreshes=len(rig.sandbox.log()) - refreshed,
            requests=requests,
            lag=_measured(rig, lags, began),
        )


def _sections(kinds: Mapping[str, str], ports: Mapping[str, int]) -> Iterator[str]:
    """The settings of the hostile clients."""
    for kind in kinds:
        for number in range(CLIENTS):
            endpoint = f"http://127.0.0.1:{ports['port']}/{kind}/{number}"
            if kind == "connects":
                endpoint = f"http://127.0.0.1:{ports['full_port']}/{kind}/{number}"
            elif kind == "names":
                endpoint = f"https://server-{number}{HANGS}/token"
            yield CLIENT.format(kind=kind, number=number, endpoint=endpoint)


def _line(name: str) -> tuple[str, str, str]:
    """Name, client and first refresh token of a hostile grant."""
    is_refused = name.startswith("half-") and _is_refused(name)
    seed = f"{REFUSED if is_refused else 'good'}-{secrets.token_urlsafe(24)}"
    return name, name.rpartition("-")[0], seed.replace(".", "-")


def _import(rig: Rig, grants: Sequence[tuple[str, str, str]]) -> None:
    lines = [
        json.dumps({"name": name, "client": client, "refresh_token": token})
        for name, client, token in grants
    ]
    if lines:
        rig.daemon.command("import", "-", text="\n".join(lines))


def _keys(names: Sequence[str]) -> list[str]:
    return [f"refresher:token:{name}" for name in names]


def _await_tokens(redis: Redis, names: Sequence[str]) -> None:
    wait_until(
        lambda: not names or redis.exists(*_keys(names)) == len(names),
        description=f"the first tokens of {len(names)} grants",
    )


def _look(redis: Redis, names: Sequence[str], seconds: float) -> Presence:
    """Look at the tokens of NAMES for SECONDS."""
    presence, next_at = Presence(), time.monotonic()
    until = next_at + seconds
    while next_at < until:
        presence.look(redis, names)
        next_at += LOOK_EVERY
        time.sleep(max(next_at - time.monotonic(), 0.0))
    return presence


def _measured(rig: Rig, file: Path, since: float) -> Lag:
    """The lag of the loop from SINCE, in monotonic time, until now."""
    assert rig.daemon.process is not None
    rig.daemon.process.send_signal(signal.SIGUSR1)
    wait_until(file.exists, description="the daemon has written its lags")
    return Lag.of([lag for at, lag in json.loads(file.read_text()) if at >= since])


@contextmanager
def _servers(lifetime: float) -> Iterator[dict[str, int]]:
    """The hostile servers, in a process of their own; their ports."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hostile.servers", str(lifetime)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _asked(kinds: Mapping[str, str], port: int) -> dict[str, int]:
    """How many requests of each kind have arrived."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/counts/0", data=b"refresh_token=none"
    )
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310  loopback
        counts: dict[str, int] = json.loads(response.read())
    return {kind: counts.get(kind, 0) for kind in kinds}
