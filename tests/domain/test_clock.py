"""What the clock alone does to a grant."""

from dataclasses import replace
from typing import Any

import pytest

from refresher.domain.grants import GrantKind, GrantState
from refresher.domain.states import pass_time, state_by_time
from tests.domain.world import (
    NOW,
    make_grant,
)


@pytest.mark.parametrize(
    ("left", "failures", "reason", "state"),
    [
        (None, 5, None, GrantState.PENDING),
        (0.0, 0, None, GrantState.EXPIRED),
        (299.0, 1, None, GrantState.DEGRADED),
        (299.0, 0, None, GrantState.FRESH),
        (301.0, 9, None, GrantState.FRESH),
        (3000.0, 1, "client_rejected:invalid_client", GrantState.DEGRADED),
        (3000.0, 1, "misconfigured:invalid_scope", GrantState.DEGRADED),
        (-1.0, 1, "client_rejected:invalid_client", GrantState.EXPIRED),
    ],
)
def test_the_clock_decides_the_state(
    left: float | None, failures: int, reason: str | None, state: GrantState
) -> None:
    assert state_by_time(make_grant(left, failures=failures, reason=reason), NOW) is state


def test_a_token_without_an_end_stays_fresh() -> None:
    grant = replace(make_grant(), kind=GrantKind.STATIC, expires_at=None)
    assert state_by_time(grant, NOW + 1e9) is GrantState.FRESH


@pytest.mark.parametrize(
    ("changes", "state", "reason"),
    [
        ({}, GrantState.EXPIRED, "overdue"),
        ({"kind": GrantKind.STATIC}, GrantState.REAUTHORIZATION_REQUIRED, "token_ended"),
        (
            {"refresh_token_fingerprint": None},
            GrantState.REAUTHORIZATION_REQUIRED,
            "no_refresh_token",
        ),
    ],
    ids=["refreshable", "static", "without refresh token"],
)
def test_the_end_of_a_token_has_its_meaning(
    changes: dict[str, Any], state: GrantState, reason: str | None
) -> None:
    grant = replace(make_grant(10.0), **changes)
    assert pass_time(grant, NOW + 9.9).state is GrantState.FRESH
    after = pass_time(grant, NOW + 10)
    assert (after.state, after.reason, after.since) == (state, reason, NOW + 10)


@pytest.mark.parametrize(
    "state",
    [
        GrantState.PENDING,
        GrantState.EXPIRED,
        GrantState.PAUSED,
        GrantState.REAUTHORIZATION_REQUIRED,
        GrantState.REMOVED,
    ],
)
def test_the_clock_leaves_other_states_alone(state: GrantState) -> None:
    grant = make_grant(-5.0, state=state)
    assert pass_time(grant, NOW) is grant
