"""The page of metrics: what it counts, what it reads, and how it names that."""

from collections.abc import Mapping

import aiohttp
import pytest
from prometheus_client import Metric as Family
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from refresher.domain.figures import Due, Ends, Figures
from refresher.logs import EVENTS, Event
from refresher.ops.http_listener import serving_http
from refresher.ops.metric_catalogue import METRICS, PROCESS_METRICS, Kind
from refresher.ops.metrics import Metrics, Standing, State

NOW = 1_800_000_000.0
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
UNITS = ("_seconds", "_bytes")

FIGURES = Figures(
    grants={
        ("crm", "fresh"): 7,
        ("gone", "expired"): 1,
        ("older", "expired"): 2,
        (None, "fresh"): 1,
    },
    access_tokens=Ends(NOW + 60, {"5m": 1, "1h": 8, "1d": 8}),
    refresh_tokens=Ends(None, {"1d": 0, "7d": 0, "14d": 0}),
    due={"crm": Due(3, NOW - 90), "gone": Due(1, NOW - 10), "older": Due(2, NOW - 20)},
    incidents={"crm": 4},
    size=4096,
)


def state(figures: Figures | None = FIGURES) -> State:
    return State(
        now=NOW,
        clients={"crm": Standing(is_suspended=True, is_rejected=False)},
        in_flight=2,
        is_writable=True,
        is_connected=False,
        figures=figures,
        read_age=0.5,
    )


async def scrape(metrics: Metrics, stands: State, accept: str = "") -> str:
    """The page as somebody gets it who scrapes."""

    async def read() -> State:
        return stands

    async with (
        serving_http("127.0.0.1:0", [metrics.route(read)]) as port,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept}) as response,
    ):
        assert response.status == 200
        kind = "application/openmetrics-text" if accept else "text/plain"
        assert response.content_type == kind
        return await response.text()


def samples(page: str) -> Mapping[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def families(page: str) -> Mapping[str, Family]:
    read = openmetrics.text_string_to_metric_families(page)  # type: ignore[no-untyped-call]  # the library leaves it untyped
    return {family.name: family for family in read}


async def test_what_stands_is_read_at_the_scrape() -> None:
    seen = samples(await scrape(Metrics(), state()))

    def value(name: str, **labels: str) -> float:
        return seen[name, frozenset(labels.items())]

    assert value("refresher_grants", client="crm", state="fresh") == 7
    assert value("refresher_grants", client="(none)", state="fresh") == 1
    assert value("refresher_access_token_soonest_end_seconds") == 60
    assert value("refresher_access_tokens_ending", within="1h") == 8
    assert value("refresher_due_lag_seconds", client="crm") == 90
    assert value("refresher_due_lag_seconds", client="(other)") == 20
    assert value("refresher_grants_due", client="(other)") == 3
    assert value("refresher_incident_grants", client="crm") == 4
    assert value("refresher_endpoint_suspended", client="crm") == 1
    assert value("refresher_client_rejected", client="crm") == 0
    assert value("refresher_vault_writable") == 1
    assert value("refresher_redis_connected") == 0
    assert value("refresher_vault_size_bytes") == 4096
    assert value("process_open_fds") > 0


async def test_clients_that_left_the_settings_share_a_label() -> None:
    """Whatever a vault was used for in its life, the series stay as many as the clients."""
    seen = samples(await scrape(Metrics(), state()))
    assert seen["refresher_grants", frozenset({("client", "(other)"), ("state", "expired")})] == 3


async def test_an_end_comes_nearer_although_nothing_happens() -> None:
    metrics = Metrics()
    later = State(**{**{name: getattr(state(), name) for name in State.__slots__}, "now": NOW + 50})
    await scrape(metrics, state())
    seen = samples(await scrape(metrics, later))
    assert seen["refresher_access_token_soonest_end_seconds", frozenset()] == 10


async def test_a_vault_that_was_never_counted_tells_no_zeros() -> None:
    page = await scrape(Metrics(), state(figures=None))
    assert "refresher_redis_connected 0.0" in page
    assert "refresher_grants{" not in page
    assert "refresher_vault_size_bytes" not in page


@pytest.mark.parametrize(
    ("event", "fields", "name", "labels", "expected"),
    [
        pytest.param(
            Event.EXCHANGE_FAILED,
            {"client": "crm", "outcome": "Transient", "duration_ms": 120.0},
            "refresher_exchanges_total",
            {"client": "crm", "outcome": "Transient"},
            1,
            id="exchange",
        ),
        pytest.param(
            Event.EXCHANGE_SUCCEEDED,
            {"client": "crm", "outcome": "Refreshed", "duration_ms": 120.0},
            "refresher_exchange_duration_seconds_sum",
            {"client": "crm"},
            0.12,
            id="its duration",
        ),
        pytest.param(
            Event.MIRROR_REPAIRED,
            {"count": 3},
            "refresher_mirror_repairs_total",
            {},
            3,
            id="repair",
        ),
        pytest.param(
            Event.REQUEST_ACCEPTED,
            {"grant": "a", "version": 1, "reason": "401"},
            "refresher_consumer_rejections_total",
            {"outcome": "accepted"},
            1,
            id="a consumer's word",
        ),
        pytest.param(
            Event.REQUEST_ACCEPTED,
            {"grant": "a", "reason": "operator"},
            "refresher_consumer_rejections_total",
            {"outcome": "accepted"},
            0,
            id="an operator's",
        ),
        pytest.param(
            Event.REQUEST_IGNORED,
            {"count": 5},
            "refresher_consumer_rejections_total",
            {"outcome": "ignored"},
            5,
            id="several words",
        ),
        pytest.param(
            Event.GRANT_LOST,
            {"grant": "a"},
            "refresher_events_total",
            {"event": "grant.lost", "level": "error"},
            1,
            id="any event",
        ),
    ],
)
async def test_an_event_is_counted(
    event: Event, fields: dict[str, object], name: str, labels: dict[str, str], expected: float
) -> None:
    metrics = Metrics()
    metrics.hear(event, fields)
    seen = samples(await scrape(metrics, state()))
    assert seen[name, frozenset(labels.items())] == pytest.approx(expected)


async def test_every_event_begins_at_zero() -> None:
    """Else its first one would be no increase, and no alert."""
    seen = samples(await scrape(Metrics(), state()))
    told = {dict(labels)["event"] for name, labels in seen if name == "refresher_events_total"}
    assert told == {event.value for event in EVENTS}


async def test_the_page_has_the_catalogue_and_nothing_else() -> None:
    metrics = Metrics()
    metrics.hear(
        Event.EXCHANGE_SUCCEEDED, {"client": "crm", "outcome": "Refreshed", "duration_ms": 1}
    )
    metrics.committed(0.002)
    metrics.published("a", 1, 0.003)
    page = families(await scrape(metrics, state(), OPENMETRICS))
    assert set(page) == {metric.name for metric in METRICS} | set(PROCESS_METRICS)
    for metric in METRICS:
        family = page[metric.name]
        assert (family.type, family.documentation) == (metric.kind, metric.meaning)
        for sample in family.samples:
            assert {*sample.labels} - {"le"} == set(metric.labels), sample
    assert page["refresher_commit_duration_seconds"].samples[-2].value == 1
    assert page["refresher_publication_delay_seconds"].samples[-2].value == 1


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_say_their_units(metric: object) -> None:
    """OpenMetrics: base units, as an ending; what is measured in none of them is a count."""
    entry = next(one for one in METRICS if one is metric)
    assert entry.name.startswith("refresher_")
    assert not entry.name.endswith(("_total", "_info", "_count", "_ms", "_milliseconds"))
    is_measured = entry.kind is Kind.HISTOGRAM or entry.meaning.startswith(("Seconds", "Bytes"))
    assert entry.name.endswith(UNITS) is is_measured
    assert entry.meaning.endswith(".")
