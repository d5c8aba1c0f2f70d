"""What ``/metrics`` tells: events that were counted, and what stands at the time of the scrape.

What stands is read when somebody asks. A sample taken at an event could not alarm on what
does not happen: a token that ends because nothing refreshes it.

prometheus_client is imported by this module, which is imported only if ``http.listen`` is set.
"""

import platform
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import anyio
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family

from refresher import __version__
from refresher.domain.figures import Ends, Figures
from refresher.logs import EVENTS, Event
from refresher.ops import metric_catalogue as catalogue
from refresher.ops.metric_catalogue import Metric
from refresher.ops.tallies import Durations, Tally

Labels = TypeVar("Labels", bound=tuple[str, ...])

LOOK_EVERY = 1.0
"""Seconds between two looks at the event loop's lag."""

EXCHANGE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 90.0)
"""Seconds; an answer under a strict rotation is read for up to 90 s."""

DISK_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0)
REDIS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

ENDINGS = {
    Event.EXCHANGE_SUCCEEDED,
    Event.EXCHANGE_FAILED,
    Event.EXCHANGE_REJECTED,
    Event.EXCHANGE_SUPERSEDED,
}
"""The one line that every exchange has."""

ANSWERS = {
    Event.REQUEST_ACCEPTED: "accepted",
    Event.REQUEST_DEFERRED: "deferred",
    Event.REQUEST_REFUSED: "refused",
    Event.REQUEST_IGNORED: "ignored",
    Event.REQUEST_DROPPED: "dropped",
}
"""What comes of a consumer's word."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a client stands with its server."""

    is_suspended: bool
    is_rejected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What stands at the time of a scrape."""

    now: float
    """Unix seconds."""
    clients: Mapping[str, Standing]
    """Those of the settings, by name."""
    in_flight: int
    is_writable: bool
    is_connected: bool
    figures: Figures | None
    """What the vault held when it was counted last; None before the first time."""
    read_age: float
    """Seconds since then."""


ReadState = Callable[[], Awaitable[State]]


class Metrics:
    """The metrics of one daemon, from its start."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._state: State | None = None
        self._of_event = {event: (event.value, one.level.value) for event, one in EVENTS.items()}
        self._events = Tally(catalogue.EVENTS_TOLD, list(self._of_event.values()))
        self._exchanges = Tally(catalogue.EXCHANGES)
        answers = [(answer,) for answer in ANSWERS.values()]
        self._rejections = Tally(catalogue.REJECTIONS, answers)
        self._repairs = Tally(catalogue.REPAIRS, [()])
        self._exchange = Durations(catalogue.EXCHANGE_DURATION, EXCHANGE_BUCKETS)
        self._commit = Durations(catalogue.COMMIT_DURATION, DISK_BUCKETS, [()])
        self._publication = Durations(catalogue.PUBLICATION_DELAY, REDIS_BUCKETS, [()])
        self._lag = Durations(catalogue.LOOP_LAG, LAG_BUCKETS, [()])
        self._registry.register(self)

    def route(self, read: ReadState) -> web.RouteDef:
        """``GET /metrics``, in the format of Prometheus or, where asked for, of OpenMetrics."""

        async def answer(request: web.Request) -> web.Response:
            self._state = await read()
            encode, content_type = choose_encoder(request.headers.get("Accept", ""))
            return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

        return web.get("/metrics", answer)

    def hear(self, event: Event, fields: Mapping[str, object]) -> None:
        """Count EVENT, and what its fields tell."""
        self._events.add(self._of_event[event])
        count = fields.get("count")
        number = count if isinstance(count, int) else 1
        if event in ENDINGS:
            self._ended(fields)
        elif event is Event.MIRROR_REPAIRED:
            self._repairs.add(number=number)
        elif event in ANSWERS and ("version" in fields or "count" in fields):
            # An operator's request has neither.
            self._rejections.add((ANSWERS[event],), number)

    def committed(self, seconds: float) -> None:
        """Count a write of the vault that took SECONDS."""
        self._commit.add(seconds)

    def published(self, _: str, __: int, seconds: float) -> None:
        """Count a publication that Redis had SECONDS after its commit."""
        self._publication.add(seconds)

    async def watch_loop(self) -> None:
        """Look for ever how late the event loop comes."""
        while True:
            due = anyio.current_time() + LOOK_EVERY
            await anyio.sleep_until(due)
            self._lag.add(anyio.current_time() - due)

    def collect(self) -> Iterator[Family]:
        """What was counted and what stands, as prometheus_client asks for it."""
        for tally in (self._events, self._exchanges, self._rejections, self._repairs):
            yield _counter(tally)
        for durations in (self._exchange, self._commit, self._publication, self._lag):
            yield _histogram(durations)
        yield _info(catalogue.BUILD, version=__version__, python=platform.python_version())
        if self._state is not None:
            yield from _standing(self._state)
            if self._state.figures is not None:
                yield from _counted(self._state, self._state.figures)

    def _ended(self, fields: Mapping[str, object]) -> None:
        client, took = str(fields.get("client")), fields.get("duration_ms")
        self._exchanges.add((client, str(fields.get("outcome"))))
        if isinstance(took, int | float):
            self._exchange.add(took / 1000, (client,))


def _standing(state: State) -> Iterator[Family]:
    yield _gauge(catalogue.IN_FLIGHT, {(): state.in_flight})
    yield _gauge(catalogue.WRITABLE, {(): state.is_writable})
    yield _gauge(catalogue.CONNECTED, {(): state.is_connected})
    clients = state.clients.items()
    yield _gauge(catalogue.SUSPENDED, {(name,): one.is_suspended for name, one in clients})
    yield _gauge(catalogue.REJECTED, {(name,): one.is_rejected for name, one in clients})


def _counted(state: State, figures: Figures) -> Iterator[Family]:
    yield _gauge(catalogue.READ_AGE, {(): state.read_age})
    yield _gauge(catalogue.VAULT_SIZE, {(): figures.size})
    counts = dict.fromkeys(((name, "fresh") for name in state.clients), 0)
    for (client, word), count in figures.grants.items():
        key = _client_label(client, state), word
        counts[key] = counts.get(key, 0) + count
    yield _gauge(catalogue.GRANTS, counts)
    yield from _ending(catalogue.TOKEN_END, catalogue.TOKENS_ENDING, figures.access_tokens, state)
    yield from _ending(
        catalogue.REFRESH_TOKEN_END, catalogue.REFRESH_TOKENS_ENDING, figures.refresh_tokens, state
    )
    due = dict.fromkeys(((name,) for name in state.clients), 0)
    lag = dict.fromkeys(due, 0.0)
    for client, one in figures.due.items():
        label = (_client_label(client, state),)
        due[label] = due.get(label, 0) + one.count
        lag[label] = max(lag.get(label, 0.0), state.now - one.since)
    yield _gauge(catalogue.DUE, due)
    yield _gauge(catalogue.DUE_LAG, lag)
    opened = {(_client_label(name, state),): count for name, count in figures.incidents.items()}
    yield _gauge(catalogue.INCIDENT, opened)


def _ending(end: Metric, ending: Metric, ends: Ends, state: State) -> Iterator[Family]:
    yield _gauge(end, {} if ends.soonest is None else {(): ends.soonest - state.now})
    yield _gauge(ending, {(window,): count for window, count in ends.within.items()})


def _client_label(client: str | None, state: State) -> str:
    if client is None:
        return catalogue.NO_CLIENT
    return client if client in state.clients else catalogue.OTHER_CLIENT


def _counter(tally: Tally) -> Family:
    metric = tally.metric
    family = CounterMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, count in list(tally.counts.items()):  # events come from any thread
        family.add_metric(labels, count)
    return family


def _histogram(durations: Durations) -> Family:
    metric = durations.metric
    family = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, buckets, total in durations.read():
        family.add_metric(labels, buckets, total)
    return family


def _gauge(metric: Metric, values: Mapping[Labels, float]) -> Family:
    family = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, float(value))
    return family


def _info(metric: Metric, **values: str) -> Family:
    family = InfoMetricFamily(metric.name, metric.meaning)
    family.add_metric((), values)
    return family
