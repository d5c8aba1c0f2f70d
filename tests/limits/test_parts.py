"""The parts of the measurement: what its server counts, and what it calls well."""

from dataclasses import replace

import pytest

from refresher.sandbox.exchange_log import ExchangeRecord
from tests.limits.ground import Quota
from tests.limits.run import Measured, is_well, measured

WELL = Measured(sent=9, allowed=10.0, refused=0, seconds=1.0, by_replica={}, fullest_second=9)


def request(at: float, status: int, replica: str) -> ExchangeRecord:
    return ExchangeRecord(
        sequence=0,
        family_id="f",
        subject=None,
        client_id="crm",
        grant_type="refresh_token",
        generation=1,
        arrived_at=at,
        peer=None,
        user_agent=replica,
        fault=None,
        status=status,
    )


def test_a_quota_counts_any_time_of_its_length() -> None:
    quota = Quota(2, 10.0)
    assert [quota.refuses(at) for at in (0.0, 9.0, 9.5, 10.5, 12.0, 19.5)] == [
        *(False, False, True, False, True, False)
    ]
    assert quota.most == 2


def test_a_log_is_measured_against_the_rate() -> None:
    log = [request(10.0, 200, "a"), request(10.5, 429, "b"), request(13.0, 200, "a")]
    found = measured(log, rate=2.0)
    assert (found.sent, found.refused) == (3, 1)
    assert found.allowed == pytest.approx(8.0)
    assert found.by_replica == {"a": 2, "b": 1, "c": 0}
    assert found.fullest_second == 2


def test_what_nobody_was_told_may_be_refused() -> None:
    refused = replace(WELL, refused=1)
    assert is_well({"known": WELL, "learned": refused, "quota": WELL})
    assert not is_well({"known": refused})
    assert not is_well({"quota": replace(WELL, unreadable=1)})
