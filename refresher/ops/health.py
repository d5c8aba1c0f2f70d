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

from refresher.ops.asking import CutOff, ask

CHECK_WITHIN = 5.0
"""Seconds for a daemon to say how it is; it answers from memory."""


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
    """Which question is asked: the name of its route."""

    LIVE = "livez"
    READY = "readyz"


async def check_health(
    path: Path, *, probe: Probe = Probe.LIVE, answer_within: float = CHECK_WITHIN
) -> Verdict:
    """Ask the daemon behind the control socket PATH; never raises.

    The default is liveness, since what runs container health checks may kill on a no.
    """
    try:
        with anyio.fail_after(answer_within):
            answer = await ask(path, "GET", f"/{probe}")
    except TimeoutError:
        return Verdict((f"the daemon on {path} did not answer within {answer_within:g} s",))
    except OSError as error:
        return Verdict((f"no daemon answers on {path}: {error.strerror or error}",))
    except CutOff:
        return Verdict((f"the daemon on {path} closed the connection",))
    return _read_verdict(answer.body)


def _read_verdict(body: bytes) -> Verdict:
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    match content:
        case {"reasons": list(reasons)}:
            return Verdict(tuple(map(str, reasons)))
        case _:
            return Verdict(("the daemon could not tell how it is; its log says why",))
