"""What a real daemon tells whoever scrapes it and whoever probes it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prometheus.run import Hour, bad_hour


@pytest.fixture
def hour(tmp_path: Path) -> Iterator[Hour]:
    with bad_hour(tmp_path) as hour:
        yield hour


def test_what_happens_is_counted_and_what_stands_is_read(hour: Hour) -> None:
    """Grants that are refused make nobody unready; a Redis that is away does."""
    before = hour.page()
    assert hour.value("refresher_exchanges_total", client="box", outcome="Refreshed") == 4
    assert hour.value("refresher_commit_duration_seconds_count") == 4
    assert (hour.value("refresher_publication_delay_seconds_count") or 0) >= 4
    soonest = hour.value("refresher_access_token_soonest_end_seconds")
    assert soonest is not None
    assert 0 < soonest <= 3_600
    hour.refuse()
    hour.reject()
    hour.take_a_key()
    assert hour.value("refresher_exchanges_total", client="box", outcome="GrantRejected") == 3
    assert hour.value("refresher_events_total", event="incident.opened", level="error") == 1
    assert hour.value("refresher_grants", client="box", state="degraded") == 3
    assert (hour.status("livez"), hour.status("readyz")) == (200, 200)
    hour.take_redis()
    assert (hour.status("livez"), hour.status("readyz")) == (200, 503)
    assert before.keys() - hour.page().keys() == set()
