"""Faults of a token endpoint, as data, and the plan that deals them out.

A fault says whether the request is processed (the refresh token rotates), how long the
answer takes, and what leaves the server instead of the true answer. A plan serves first a
family's own queue, then the common queue, then chance. Everything can be built from JSON.
"""

import json
import random
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from email.utils import formatdate
from http import HTTPStatus
from typing import Annotated, Any, Literal, assert_never
from urllib.parse import urlencode

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from refresher.sandbox.answers import Answer

_STRICT = ConfigDict(extra="forbid")

_HTML = b"<!doctype html><title>Bad gateway</title><h1>Bad gateway</h1>"
_HTML_HEADERS = {"Content-Type": "text/html; charset=utf-8"}


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Status:
    """An answer of this status; the request is not processed."""

    kind: Literal["status"] = "status"
    code: int = 503
    body: bytes = _HTML
    headers: Mapping[str, str] = Field(default_factory=lambda: dict(_HTML_HEADERS))


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class StatusAfter:
    """An answer of this status although the request was processed (a proxy gave up)."""

    kind: Literal["status_after"] = "status_after"
    code: int = 504
    body: bytes = _HTML
    headers: Mapping[str, str] = Field(default_factory=lambda: dict(_HTML_HEADERS))


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class DropBefore:
    """The connection is closed, the request is not processed; ``reset`` sends a TCP RST."""

    kind: Literal["drop_before"] = "drop_before"
    reset: bool = False


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class DropAfter:
    """The request is processed, then the connection is closed without an answer."""

    kind: Literal["drop_after"] = "drop_after"
    reset: bool = False


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Slow:
    """The true answer, ``seconds`` later; the wait is before processing or after it."""

    kind: Literal["slow"] = "slow"
    seconds: float = 1.0
    after_processing: bool = False


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Truncate:
    """Half the body of the true answer under its whole Content-Length, then the end."""

    kind: Literal["truncate"] = "truncate"


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Raw:
    """Any answer at all: HTML, a giant, a compressed body, a wrong charset."""

    kind: Literal["raw"] = "raw"
    status: int = 200
    body: bytes = _HTML
    headers: Mapping[str, str] = Field(default_factory=lambda: dict(_HTML_HEADERS))
    after_processing: bool = False


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RetryAfter:
    """Too many requests, with a Retry-After in seconds or as an HTTP date."""

    kind: Literal["retry_after"] = "retry_after"
    code: int = 429
    seconds: int = 1
    as_date: bool = False


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Redirect:
    """A redirect; the default location is the token endpoint itself (a loop)."""

    kind: Literal["redirect"] = "redirect"
    code: int = 307
    location: str = ""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class AlterAnswer:
    """The true answer with members set or removed: no expires_in, an error beside a 200.

    Args:
        form_encoded: the body as a form instead of JSON, as GitHub does by default.
    """

    kind: Literal["alter_answer"] = "alter_answer"
    members: Mapping[str, Any] = Field(default_factory=dict)
    without: tuple[str, ...] = ()
    form_encoded: bool = False


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Echo:
    """A refusal that quotes the refresh token wherever it can; the request is not processed."""

    kind: Literal["echo"] = "echo"
    code: int = 400
    error: str = "invalid_request"


Fault = Annotated[
    Status
    | StatusAfter
    | DropBefore
    | DropAfter
    | Slow
    | Truncate
    | Raw
    | RetryAfter
    | Redirect
    | AlterAnswer
    | Echo,
    Field(discriminator="kind"),
]

_KINDS: dict[str, type[Fault]] = {
    "status": Status,
    "status_after": StatusAfter,
    "drop_before": DropBefore,
    "drop_after": DropAfter,
    "slow": Slow,
    "truncate": Truncate,
    "raw": Raw,
    "retry_after": RetryAfter,
    "redirect": Redirect,
    "alter_answer": AlterAnswer,
    "echo": Echo,
}


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class FaultMix:
    """Faults by chance: each with its probability, the rest of one is no fault."""

    chances: tuple[tuple[float, Fault], ...]
    seed: int = 0

    @classmethod
    def of(cls, probabilities: Mapping[str, float], *, seed: int = 0) -> "FaultMix":
        """A mix of faults in their default form, by their kinds."""
        chances = tuple((chance, _KINDS[kind]()) for kind, chance in probabilities.items())
        return cls(chances=chances, seed=seed)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class PlanChange:
    """A change of the plan as JSON brings it; what is absent stays as it is.

    Args:
        queue: replaces the common queue; null is an exchange without a fault.
        families: replaces the queues of these families.
        mix: replaces the mix; a mix without chances ends it.
        latency: seconds from, to; (0, 0) ends it.
    """

    queue: tuple[Fault | None, ...] | None = None
    families: Mapping[str, tuple[Fault | None, ...]] = Field(default_factory=dict)
    mix: FaultMix | None = None
    latency: tuple[float, float] | None = None


def spread(
    faults: Sequence[Fault], *, every: int, exchanges: int, seed: int = 0
) -> list[Fault | None]:
    """A queue with one fault at a random place in each block of EVERY exchanges, in turn."""
    chance = random.Random(seed)  # noqa: S311  reproducible on purpose
    plan: list[Fault | None] = []
    for block in range(exchanges // every):
        part: list[Fault | None] = [None] * every
        part[chance.randrange(every)] = faults[block % len(faults)]
        plan.extend(part)
    return plan


class RateLimit:
    """Takes so many requests a second, and as many at once; monotonic seconds."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate, self._left, self._counted_at = rate, rate, now

    def refuses(self, now: float) -> bool:
        """Whether one more request is one too many."""
        self._left = min(self._rate, self._left + (now - self._counted_at) * self._rate)
        self._counted_at = now
        if self._left < 1:
            return True
        self._left -= 1
        return False


class FaultPlan:
    """Which fault the next token request meets, how long it takes, and what was dealt out.

    Args:
        latency: an answer takes a time drawn evenly between these two, in seconds; the
            instant of processing lies evenly within it.
        rate_limit: requests a second above which they are throttled.
        seed: of the latency; the mix has its own, so that neither disturbs the other.
    """

    def __init__(
        self,
        *,
        mix: FaultMix | None = None,
        latency: tuple[float, float] = (0.0, 0.0),
        rate_limit: float | None = None,
        seed: int = 0,
    ) -> None:
        self.injected: Counter[str] = Counter()
        self._limit = None if rate_limit is None else RateLimit(rate_limit, time.monotonic())
        self.latency = latency
        self._queue: deque[Fault | None] = deque()
        self._families: dict[str, deque[Fault | None]] = {}
        self._latency_random = random.Random(seed)  # noqa: S311  reproducible on purpose
        self.set_mix(mix)

    def enqueue(self, *faults: Fault | None, family_id: str | None = None) -> None:
        """Let the next exchanges, or the next ones of a family, meet these; None is no fault."""
        queue = self._queue if family_id is None else self._family_queue(family_id)
        queue.extend(faults)

    def set_mix(self, mix: FaultMix | None) -> None:
        """Replace the faults by chance; the draws begin anew from the mix's seed."""
        self._mix = mix
        self._mix_random = random.Random(mix.seed if mix else 0)  # noqa: S311  reproducible

    def clear(self) -> None:
        """No faults and no latency from now on; what was counted stays."""
        self._queue.clear()
        self._families.clear()
        self.set_mix(None)
        self.latency = (0.0, 0.0)

    def apply(self, change: PlanChange) -> None:
        if change.queue is not None:
            self._queue = deque(change.queue)
        for family_id, faults in change.families.items():
            self._families[family_id] = deque(faults)
        if change.mix is not None:
            self.set_mix(change.mix)
        if change.latency is not None:
            self.latency = change.latency

    def next_for(self, family_id: str | None) -> Fault | None:
        """Take and count the fault of the exchange that arrives now."""
        fault = self._take(family_id)
        if fault is None and self._limit is not None and self._limit.refuses(time.monotonic()):
            fault = RetryAfter()
        if fault is not None:
            self.injected[fault.kind] += 1
        return fault

    def draw_waits(self) -> tuple[float, float]:
        """Seconds of latency before and after the processing of one exchange."""
        total = self._latency_random.uniform(*self.latency)
        before = total * self._latency_random.random()
        return before, total - before

    def _take(self, family_id: str | None) -> Fault | None:
        own = self._families.get(family_id) if family_id is not None else None
        if own:
            return own.popleft()
        if self._queue:
            return self._queue.popleft()
        if self._mix is None:
            return None
        draw = self._mix_random.random()
        for chance, fault in self._mix.chances:
            draw -= chance
            if draw < 0:
                return fault
        return None

    def _family_queue(self, family_id: str) -> deque[Fault | None]:
        return self._families.setdefault(family_id, deque())


def is_processed(fault: Fault | None) -> bool:
    """Whether a request that meets the fault is processed."""
    match fault:
        case None | StatusAfter() | DropAfter() | Slow() | Truncate() | AlterAnswer():
            return True
        case Status() | DropBefore() | RetryAfter() | Redirect() | Echo():
            return False
        case Raw():
            return fault.after_processing
        case other:
            assert_never(other)


def waits(fault: Fault | None) -> tuple[float, float]:
    """Seconds the fault adds before and after the processing."""
    if isinstance(fault, Slow):
        return (0.0, fault.seconds) if fault.after_processing else (fault.seconds, 0.0)
    return 0.0, 0.0


def disguise(
    fault: Fault | None, answer: Answer | None, *, token_endpoint: str, presented: str, now: float
) -> Answer | DropBefore | DropAfter:
    """What leaves the server: an answer, or the drop that stands for none.

    Args:
        answer: the true answer; None if the request was not processed.
        presented: the refresh token of the request.
    """
    match fault:
        case DropBefore() | DropAfter():
            return fault
        case Status() | StatusAfter():
            return Answer(status=fault.code, headers=fault.headers, body=fault.body)
        case Raw():
            return Answer(status=fault.status, headers=fault.headers, body=fault.body)
        case Echo():
            return _echo(fault, presented)
        case RetryAfter():
            return _too_many_requests(fault, now)
        case Redirect():
            headers = {"Location": fault.location or token_endpoint}
            return Answer(status=fault.code, headers=headers, body=b"")
        case None | Slow() | Truncate() | AlterAnswer():
            assert answer is not None
            return _alter(fault, answer)
        case other:
            assert_never(other)


def _echo(fault: Echo, presented: str) -> Answer:
    body = {
        "error": fault.error,
        "error_description": f"the refresh token {presented} cannot be used",
        "error_uri": f"https://errors.example/?refresh_token={presented}",
        "message": presented,
        "trace": {"refresh_token": [presented]},
    }
    headers = {"Content-Type": "application/json", "X-Debug": presented}
    return Answer(status=fault.code, headers=headers, body=json.dumps(body).encode())


def _too_many_requests(fault: RetryAfter, now: float) -> Answer:
    value = formatdate(now + fault.seconds, usegmt=True) if fault.as_date else str(fault.seconds)
    body = HTTPStatus(fault.code).phrase.encode()
    return Answer(status=fault.code, headers={"Retry-After": value}, body=body)


def _alter(fault: Slow | Truncate | AlterAnswer | None, answer: Answer) -> Answer:
    if isinstance(fault, Truncate):
        return replace(answer, cut_after=len(answer.body) // 2)
    if not isinstance(fault, AlterAnswer):
        return answer
    members = {**json.loads(answer.body), **fault.members}
    members = {name: value for name, value in members.items() if name not in fault.without}
    if not fault.form_encoded:
        return replace(answer, body=json.dumps(members).encode())
    headers = {**answer.headers, "Content-Type": "application/x-www-form-urlencoded"}
    return replace(answer, body=urlencode(members).encode(), headers=headers)
