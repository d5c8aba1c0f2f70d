"""Whether the daemon lives and whether it is ready: two different questions.

Live means that the event loop turns, and so that the question is answered at all; whoever
finds the daemon dead may kill it. Ready means that it can do all of its work now. A vault
or Redis that fails or hangs makes it unready and never dead: a killed daemon could have
been the only holder of a refresh token that no vault took yet.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import anyio
from anyio.abc import SocketStream

CHECK_WITHIN = 5.0
"""Seconds for a daemon to say how it is; it answers from memory."""

_MAX_ANSWER = 64 * 1024


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to one of the two questions."""

    reasons: tuple[str, ...] = ()
    """What speaks against it, one sentence each and no secret in any; none means yes."""

    @property
    def passed(self) -> bool:
        return not self.reasons


Judge = Callable[[], Verdict]
"""Answers whether the daemon is ready: at once, from memory."""


class Probe(StrEnum):
    """Which question is asked."""

    LIVE = "live"
    READY = "ready"


async def check_health(
    path: Path, *, probe: Probe = Probe.LIVE, answer_within: float = CHECK_WITHIN
) -> Verdict:
    """Ask the daemon behind the control socket PATH; never raises.

    The default is liveness, since what runs container health checks may kill on a no.
    Plain HTTP by hand: importing a client would take longer than everything else here.
    """
    try:
        with anyio.fail_after(answer_within):
            async with await anyio.connect_unix(path) as stream:
                await stream.send(
                    f"GET /health/{probe} HTTP/1.1\r\n"
                    "Host: localhost\r\nConnection: close\r\n\r\n".encode()
                )
                answer = await _receive_all(stream)
    except TimeoutError:
        return Verdict((f"the daemon on {path} did not answer within {answer_within:g} s",))
    except OSError as error:
        return Verdict((f"no daemon answers on {path}: {error.strerror or error}",))
    except anyio.BrokenResourceError:
        return Verdict((f"the daemon on {path} closed the connection",))
    return _read_verdict(answer)


async def _receive_all(stream: SocketStream) -> bytes:
    received = b""
    try:
        while len(received) < _MAX_ANSWER:
            received += await stream.receive()
    except anyio.EndOfStream:
        pass
    return received


def _read_verdict(answer: bytes) -> Verdict:
    try:
        content = json.loads(answer.partition(b"\r\n\r\n")[2])
    except ValueError:
        content = None
    match content:
        case {"reasons": list(reasons)}:
            return Verdict(tuple(map(str, reasons)))
        case _:
            return Verdict(("the daemon could not tell how it is; its log says why",))
