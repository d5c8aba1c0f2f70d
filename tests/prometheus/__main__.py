"""Judge what ``deploy/prometheus`` ships on the metrics of a real run: two minutes.

A daemon goes through a bad hour (``run``) and a Prometheus scrapes it. Every query of the
dashboard must bring something there. promtool then takes the pages for an hour: nothing may fire
while all is well, and afterwards what the run did. Each other rule is judged on the same pages
with one metric changed. Needs Debian's ``prometheus``. Exits 1 if something is otherwise.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.prometheus.judging import (
    END,
    MINUTES_BAD,
    MINUTES_WELL,
    OF_THE_SCRAPE,
    SOON,
    Case,
    Labels,
    promtool,
    scraping,
    series,
)
from tests.prometheus.run import REFUSED, Hour, Page, Series, bad_hour, kept
from tests.prometheus.shipped import alerts, queries
from tests.support.waiting import wait_until

UNKNOWN_HERE = {"First refresh token ends in"}
"""Panels without data in this run: the sandbox tells no end of refresh tokens."""

BOX = {**OF_THE_SCRAPE, "client": "box"}
CLIENT = frozenset({("client", "box")})

CHANGED: Mapping[str, tuple[Series, float, Labels]] = {
    "RefresherDown": (("up", frozenset()), 0, OF_THE_SCRAPE),
    "RefresherGrantsExpired": (
        ("refresher_grants", CLIENT | {("state", "expired")}),
        2,
        BOX,
    ),
    "RefresherGrantsLost": (
        ("refresher_grants", CLIENT | {("state", "reauthorization_required")}),
        1,
        BOX,
    ),
    "RefresherBehind": (("refresher_due_lag_seconds", CLIENT), 200, BOX),
    "RefresherClientRejected": (("refresher_client_rejected", CLIENT), 1, BOX),
    "RefresherEndpointSuspended": (("refresher_endpoint_suspended", CLIENT), 1, BOX),
    "RefresherRefreshTokensEnding": (
        ("refresher_refresh_tokens_ending", frozenset({("within", "7d")})),
        3,
        {**OF_THE_SCRAPE, "within": "7d"},
    ),
    "RefresherVaultRefuses": (("refresher_vault_writable", frozenset()), 0, OF_THE_SCRAPE),
    "RefresherVaultUncounted": (
        ("refresher_vault_read_age_seconds", frozenset()),
        900,
        OF_THE_SCRAPE,
    ),
    "RefresherDescriptorsShort": (("process_open_fds", frozenset()), 1e9, OF_THE_SCRAPE),
}
"""What the run does not do: the metric that says it, its value from then on, and who fires."""

OF_THE_RUN = ("RefresherGrantsDegraded", "RefresherIncident", "RefresherRedisAway")
SEEN_AS_INCREASE = ("RefresherMirrorRepaired", "RefresherErrorLogged")
LATE = "RefresherLoopLate"


def say(line: str) -> None:
    """Print LINE at once: the run takes minutes."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def judge_queries(hour: Hour, folder: Path) -> tuple[list[Page], list[Page]]:
    """Run the hour under a Prometheus; the pages of both halves."""
    with scraping(hour.address, folder) as prometheus:
        well = kept(hour)
        assert prometheus.pending_or_firing() == set(), "all is well, and something is alarmed"
        hour.reject()
        hour.take_a_key()
        hour.refuse()
        hour.take_redis()
        bad = kept(hour)
        expected = {*OF_THE_RUN, *SEEN_AS_INCREASE}
        wait_until(
            lambda: expected <= prometheus.pending_or_firing(),
            description=f"{expected} are active",
        )
        for title, expression in queries():
            filled = expression.replace("$__rate_interval", "2m").replace("$job", ".+")
            found = prometheus.query(filled)
            assert found or title in UNKNOWN_HERE, f"{title}: {filled} brings nothing"
            say(f"  {len(found):3} series  {title}")
    return well, bad


def cases(well: list[Page], bad: list[Page]) -> Iterator[Case]:
    """What promtool is to find on the pages as they are, and with one metric changed."""
    names = [alert.name for alert in alerts()]
    real = series(well, bad)
    quiet = {(name, MINUTES_WELL - 1): list[Labels]() for name in names}
    fired: dict[tuple[str, int], list[Labels]] = {(name, END): [] for name in names}
    fired |= {(name, END): [BOX] for name in OF_THE_RUN[:2]}
    fired |= {("RefresherRedisAway", END): [OF_THE_SCRAPE]}
    fired |= {("RefresherMirrorRepaired", SOON): [OF_THE_SCRAPE]}
    fired |= {("RefresherErrorLogged", SOON): [*_errors(real)]}
    yield Case(real, quiet | fired)
    steady = series(well, well)
    for name, (changed, value, labels) in CHANGED.items():
        values = steady | {changed: _from(steady.get(changed), value)}
        others = {(other, END): list[Labels]() for other in names if other != name}
        yield Case(values, others | {(name, END): [labels]})
    yield Case(steady | _late(steady), {(LATE, END): [OF_THE_SCRAPE]})


def _from(before: list[float] | None, value: float) -> list[float]:
    earlier = [float("nan")] * MINUTES_WELL if before is None else before[:MINUTES_WELL]
    return [*earlier, *([value] * MINUTES_BAD)]


def _errors(real: dict[Series, list[float]]) -> Iterator[Labels]:
    """The events of level error that the run told, as they fire."""
    for (name, pairs), values in real.items():
        labels = dict(pairs)
        is_error = name == "refresher_events_total" and labels["level"] == "error"
        if is_error and values[-1] > values[0]:
            yield {**OF_THE_SCRAPE, **labels}


def _late(steady: dict[Series, list[float]]) -> dict[Series, list[float]]:
    """The event loop's lag, with every look of the second half in the last bucket."""
    found = {}
    for one, values in steady.items():
        if one[0] == "refresher_event_loop_lag_seconds_bucket":
            bound = float(dict(one[1])["le"])
            looks = [60.0 * minute * (bound > 1.0) for minute in range(MINUTES_BAD)]
            found[one] = [*values[:MINUTES_WELL], *(values[MINUTES_WELL - 1] + n for n in looks)]
    return found


def main() -> None:
    with TemporaryDirectory(prefix="refresher-prometheus-") as name:
        folder = Path(name)
        (folder / "daemon").mkdir()
        with bad_hour(folder / "daemon") as hour:
            say("queries of the dashboard, asked of a Prometheus that scraped the run:")
            well, bad = judge_queries(hour, folder)
        judged = list(cases(well, bad))
        told = {alert["event"] for alert in _errors(series(well, bad))}
        assert {"exchange.rejected", "grant.doubted", "incident.opened", "redis.lost"} <= told, told
        covered = {name for case in judged for (name, _), firing in case.expected.items() if firing}
        assert covered == {alert.name for alert in alerts()}, "a rule is never seen to fire"
        said = promtool(judged, folder)
        say(f"promtool: {' '.join(said.split())}")
        fires = f"each of {len(covered)} rules fires"
        say(f"{fires}; none while {len(well[0])} series of {len(REFUSED) + 1} grants were well")


if __name__ == "__main__":
    main()
