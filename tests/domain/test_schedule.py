"""When: the bounds of every computed instant, for all lifetimes and draws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresher.domain import schedule
from refresher.domain.clients import UnknownOutcome
from refresher.domain.grants import Intent
from refresher.domain.quirks import Rotation, RotationProfile

NOW = 1_800_000_000.0
SLACK = 1e-6
"""Unix seconds as floats are this exact."""

draws = st.floats(0, 1, exclude_max=True)
lifetimes = st.floats(1, 10 * 366 * 86_400)
waits = st.floats(0, 1e7)
rotations = st.one_of(
    st.sampled_from([p for p in RotationProfile if p is not RotationProfile.GRACE]).map(Rotation),
    st.floats(1, 86_400).map(lambda grace: Rotation(RotationProfile.GRACE, grace)),
)
policies = st.sampled_from(UnknownOutcome)


def lead_of(lifetime: float, draw: float, **parts: float) -> float:
    """How long before its end a token of LIFETIME is refreshed."""
    return NOW + lifetime - schedule.refresh_at(NOW, NOW + lifetime, draw, **parts)


@given(lifetimes, draws, waits)
def test_a_lead_never_takes_half_the_life(lifetime: float, draw: float, outage: float) -> None:
    lead = lead_of(lifetime, draw, survive_outage=outage)
    assert 0 < lead <= lifetime / 2 + SLACK


@given(st.floats(300, 1e8), draws)
def test_a_long_life_leads_by_a_quarter(lifetime: float, draw: float) -> None:
    assert 0.2 * lifetime - SLACK <= lead_of(lifetime, draw) <= 0.3 * lifetime + SLACK


@given(st.floats(1, 120), draws)
def test_a_short_life_leads_by_almost_half(lifetime: float, draw: float) -> None:
    assert 0.4 * lifetime - SLACK <= lead_of(lifetime, draw) <= 0.5 * lifetime + SLACK


@given(st.floats(120.001, 299.999), draws)
def test_a_middling_life_leads_by_a_minute(lifetime: float, draw: float) -> None:
    assert 60 - SLACK <= lead_of(lifetime, draw) <= max(75, 0.3 * lifetime) + SLACK


@given(lifetimes, draws, waits)
def test_an_outage_to_survive_moves_it_earlier(lifetime: float, draw: float, outage: float) -> None:
    lead = lead_of(lifetime, draw, survive_outage=outage)
    assert lead >= lead_of(lifetime, draw) - SLACK
    assert lead >= min(outage, lifetime / 2) - SLACK


@given(lifetimes, draws, st.floats(0.001, 0.999))
def test_the_servers_own_instant_is_honoured(lifetime: float, draw: float, share: float) -> None:
    refresh_in = lifetime * share
    due_at = schedule.refresh_at(NOW, NOW + lifetime, draw, refresh_in=refresh_in)
    latest = lifetime - min(60.0, lifetime / 4)
    assert min(refresh_in, latest) - SLACK <= due_at - NOW <= latest + SLACK
    assert due_at <= NOW + refresh_in * 1.05 + SLACK


@pytest.mark.parametrize("lifetime", [600.0, 3600.0])
def test_a_late_refresh_in_leaves_room_for_retries(lifetime: float) -> None:
    due_at = schedule.refresh_at(NOW, NOW + lifetime, 0.5, refresh_in=lifetime - 1)
    first = schedule.retry_at(due_at, 1, 0.5, expires_at=NOW + lifetime, lifetime=lifetime)
    assert first < NOW + lifetime


@pytest.mark.parametrize("refresh_in", [0.0, -5.0, 3600.0, 1e9])
def test_an_absurd_instant_of_the_server_is_ignored(refresh_in: float) -> None:
    due_at = schedule.refresh_at(NOW, NOW + 3600, 0.5, refresh_in=refresh_in)
    assert due_at == schedule.refresh_at(NOW, NOW + 3600, 0.5)


@given(st.lists(draws, min_size=2, max_size=2, unique=True), st.floats(300, 1e6))
def test_draws_spread_refreshes(two: list[float], lifetime: float) -> None:
    """Grants that were issued together do not come back together."""
    first, second = (lead_of(lifetime, draw) for draw in two)
    assert first - second == pytest.approx((two[0] - two[1]) * 0.1 * lifetime, abs=1e-5)


@given(st.integers(1, 10_000), draws, st.one_of(st.none(), lifetimes), st.floats(-1e6, 1e6))
def test_retries_keep_their_bounds(
    failures: int, draw: float, lifetime: float | None, left: float
) -> None:
    expires_at = NOW + left
    left = expires_at - NOW
    due_at = schedule.retry_at(NOW, failures, draw, expires_at=expires_at, lifetime=lifetime)
    wait = due_at - NOW
    assert wait >= 0.05 - SLACK
    assert wait <= (300 if left > 0 else 900) + SLACK
    if 0 < left < 30:
        assert wait <= 30 + SLACK
    scale = 1.0 if lifetime is None else min(1.0, max(lifetime / 600, 0.05))
    assert wait <= 5 * scale * 2 ** min(failures - 1, 16) + SLACK


@pytest.mark.parametrize(
    ("failures", "left", "longest"),
    [
        (1, 3000.0, 5.0),
        (2, 3000.0, 10.0),
        (4, 3000.0, 40.0),
        (50, 3000.0, 300.0),
        (50, 299.0, 30.0),
        (50, -1.0, 900.0),
        (1, -1.0, 5.0),
    ],
    ids=["first", "second", "fourth", "late", "near the end", "expired", "first expired"],
)
def test_the_longest_retry_of_an_hour(failures: int, left: float, longest: float) -> None:
    waits = [
        schedule.retry_at(NOW, failures, draw, expires_at=NOW + left, lifetime=3600.0) - NOW
        for draw in (0.0, 1.0 - 1e-12)
    ]
    assert waits == pytest.approx([1.0, longest], abs=1e-3)


def test_retries_of_a_short_life_are_scaled_down() -> None:
    wait = schedule.retry_at(NOW, 9, 0.999, expires_at=NOW + 55, lifetime=60.0) - NOW
    assert wait <= 30


@given(st.integers(1, 100), draws, st.one_of(st.none(), st.floats(-1e9, 1e9)))
def test_a_retry_after_is_kept_up_to_an_hour(
    failures: int, draw: float, retry_after: float | None
) -> None:
    due_at = schedule.retry_at(
        NOW, failures, draw, expires_at=NOW + 9e3, lifetime=9e3, retry_after=retry_after
    )
    asked = min(max(retry_after or 0.0, 0.0), 3600.0)
    assert NOW + asked - SLACK <= due_at <= NOW + max(asked, 300.0) + SLACK


def time_for(
    rotation: Rotation,
    *,
    age: float = 0.0,
    remaining: float | None = 900.0,
    response_timeout: float = 30.0,
) -> schedule.Waiting:
    """How long an exchange is waited for whose first attempt was AGE seconds ago."""
    return schedule.waiting(rotation, response_timeout, intent_of(1, age), NOW, remaining)


@pytest.mark.parametrize("profile", ["strict", "unknown"])
@pytest.mark.parametrize("remaining", [None, -5.0, 0.5, 3600.0])
def test_where_a_lost_answer_costs_the_grant_there_is_time(
    profile: str, remaining: float | None
) -> None:
    """However little is left of the access token: that one can be had again."""
    assert time_for(Rotation.parse(profile), remaining=remaining) == schedule.Waiting(30.0, 90.0)


def test_a_slow_server_gets_the_time_it_was_given() -> None:
    strict = Rotation(RotationProfile.STRICT)
    assert time_for(strict, response_timeout=120.0) == schedule.Waiting(120.0, 120.0)
    assert time_for(strict, response_timeout=60.0) == schedule.Waiting(60.0, 90.0)


@pytest.mark.parametrize("grace", [5.0, 10.0, 15.0])
def test_a_window_without_room_for_a_replay_is_none(grace: float) -> None:
    assert time_for(Rotation(RotationProfile.GRACE, grace)) == schedule.Waiting(30.0, 90.0)


@given(st.floats(1, 86_400), st.floats(0, 86_400), st.floats(1, 300))
def test_a_short_deadline_leaves_room_for_a_whole_replay(
    grace: float, age: float, response_timeout: float
) -> None:
    rotation = Rotation(RotationProfile.GRACE, grace)
    wait = time_for(rotation, age=age, response_timeout=response_timeout)
    replay_takes = max(grace / 4, 5.0)
    if age + 2 * replay_takes <= 0.66 * grace - SLACK:
        assert wait.deadline == wait.reading == min(response_timeout, replay_takes)
    elif age + 2 * replay_takes > 0.66 * grace + SLACK:
        assert (wait.deadline, wait.reading) == (response_timeout, max(response_timeout, 90.0))


@pytest.mark.parametrize(
    ("remaining", "deadline"),
    [(3600.0, 30.0), (30.0, 10.0), (3.0, 5.0), (-1.0, 30.0), (None, 30.0)],
)
def test_without_rotation_an_answer_may_take_a_third_of_what_is_left(
    remaining: float | None, deadline: float
) -> None:
    wait = time_for(Rotation(RotationProfile.NONE), remaining=remaining)
    assert wait == schedule.Waiting(deadline, deadline)


@pytest.mark.parametrize(
    ("refusals", "expected"), [(1, 120.0), (2, 600.0), (3, 1800.0), (4, 5400.0), (9, 5400.0)]
)
def test_questions_about_a_doubted_grant_grow_rare(refusals: int, expected: float) -> None:
    asked_at = {1: 0.0, 2: 120.0, 3: 600.0}.get(refusals, 1800.0)
    assert schedule.next_question(NOW, refusals, NOW + asked_at, 0.0) == NOW + expected


@given(st.integers(1, 50), st.floats(0, 1e6), draws)
def test_a_doubted_grant_is_never_asked_for_early(refusals: int, age: float, draw: float) -> None:
    due_at = schedule.next_question(NOW, refusals, NOW + age, draw)
    assert due_at >= NOW + age + 60.0
    assert due_at >= NOW + [120.0, 600.0, 1800.0, 3600.0][min(refusals, 4) - 1]


@pytest.mark.parametrize(
    ("age", "witness_at", "is_final"),
    [
        (1799.0, NOW + 60, False),
        (1800.0, NOW + 60, True),
        (1800.0, NOW, False),
        (1800.0, NOW - 1, False),
        (1800.0, None, False),
        (86_399.0, None, False),
        (86_400.0, None, True),
    ],
)
def test_a_refusal_is_final_after_half_an_hour_and_a_witness(
    age: float, witness_at: float | None, *, is_final: bool
) -> None:
    assert schedule.is_final_refusal(NOW, NOW + age, witness_at, 86_400.0) is is_final


def test_tries_for_an_early_refresh_halve_what_is_left() -> None:
    end, now, tries = NOW + 64.0, NOW, []
    for refusals in range(1, 8):
        now = schedule.too_early_again_at(now, end, refusals, 0.5)
        tries.append(round(end - now, 3))
    assert tries[:5] == [32.0, 16.0, 8.0, 4.0, 0.0]
    assert all(left < 0 for left in tries[5:])


def intent_of(attempts: int, age: float) -> Intent:
    return Intent(
        sequence=attempts, presented=b"fingerprint", first_sent_at=NOW - age, attempts=attempts
    )


def replay(
    rotation: Rotation,
    policy: UnknownOutcome,
    *,
    attempts: int,
    age: float = 1.0,
    fallback: float = 60.0,
    left: float | None = 3000.0,
) -> float | None:
    """The wait before a replay."""
    due_at = schedule.replay_at(
        NOW,
        intent_of(attempts, age),
        rotation,
        policy,
        NOW + fallback,
        expires_at=None if left is None else NOW + left,
        lifetime=None if left is None else 3600.0,
    )
    return None if due_at is None else due_at - NOW


ages = st.floats(0, 1e6)
fallbacks = st.floats(0.05, 900)


@given(rotations, policies, st.integers(1, 50), st.tuples(ages, fallbacks, st.floats(-1e6, 1e6)))
def test_a_replay_is_never_in_the_past(
    rotation: Rotation,
    policy: UnknownOutcome,
    attempts: int,
    spans: tuple[float, float, float],
) -> None:
    age, fallback, left = spans
    wait = replay(rotation, policy, attempts=attempts, age=age, fallback=fallback, left=left)
    if wait is None:
        assert policy is UnknownOutcome.PAUSE
        return
    assert wait >= 0
    if attempts > 1:
        assert wait >= min(1.0, fallback) - SLACK


@given(st.floats(1, 86_400), st.integers(2, 50), ages, fallbacks)
def test_a_prompt_replay_ends_inside_the_grace(
    grace: float, attempts: int, age: float, fallback: float
) -> None:
    """Its answer must arrive before 0.66 N after the first send; else it waits as strict."""
    rotation = Rotation(RotationProfile.GRACE, grace)
    wait = replay(rotation, UnknownOutcome.REPLAY, attempts=attempts, age=age, fallback=fallback)
    assert wait is not None
    end = age + wait + schedule.replay_length(rotation)
    assert end <= 0.66 * grace + 1e-5 or wait == pytest.approx(fallback, abs=SLACK)


def test_replays_inside_a_grace_are_prompt() -> None:
    rotation = Rotation(RotationProfile.GRACE, 600.0)
    found = [replay(rotation, UnknownOutcome.PAUSE, attempts=n) for n in range(1, 7)]
    assert found == [0.0, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_replays_until_used_turn_into_retries() -> None:
    rotation = Rotation(RotationProfile.UNTIL_USED)
    found = [replay(rotation, UnknownOutcome.PAUSE, attempts=n) for n in range(1, 7)]
    assert found == [0.0, 1.0, 2.0, 4.0, 60.0, 60.0]


@pytest.mark.parametrize("policy", UnknownOutcome)
def test_without_rotation_a_replay_is_a_retry(policy: UnknownOutcome) -> None:
    assert replay(Rotation(RotationProfile.NONE), policy, attempts=1) == 60.0


@pytest.mark.parametrize("profile", [RotationProfile.STRICT, RotationProfile.UNKNOWN])
@pytest.mark.parametrize(
    ("policy", "attempts", "left", "expected"),
    [
        (UnknownOutcome.REPLAY, 1, 3000.0, 0.0),
        (UnknownOutcome.REPLAY, 2, 3000.0, 60.0),
        (UnknownOutcome.DEFER, 1, 3000.0, 2700.0),
        (UnknownOutcome.DEFER, 2, 3000.0, 2700.0),
        (UnknownOutcome.DEFER, 1, 100.0, 0.0),
        (UnknownOutcome.DEFER, 2, 100.0, 60.0),
        (UnknownOutcome.DEFER, 1, None, 0.0),
        (UnknownOutcome.PAUSE, 1, 3000.0, None),
    ],
    ids=str,
)
def test_a_strict_server_gets_one_prompt_replay(
    profile: RotationProfile,
    policy: UnknownOutcome,
    attempts: int,
    left: float | None,
    expected: float | None,
) -> None:
    assert replay(Rotation(profile), policy, attempts=attempts, left=left) == expected


def test_a_deferred_replay_never_waits_for_a_misdated_end() -> None:
    """The clock stepped back by a day: the token's end is not a day away."""
    rotation = Rotation(RotationProfile.STRICT)
    assert replay(rotation, UnknownOutcome.DEFER, attempts=1, left=86_400.0) == 3600.0 - 300.0


def test_the_last_replay_still_ends_inside_the_grace() -> None:
    last = schedule.last_replay_at(NOW, Rotation(RotationProfile.GRACE, 30.0))
    replay_takes = schedule.replay_length(Rotation(RotationProfile.GRACE, 30.0))
    assert last + replay_takes == pytest.approx(NOW + 0.66 * 30)


@pytest.mark.parametrize("profile", ["none", "until_used", "strict", "unknown"])
def test_without_a_window_there_is_no_last_replay(profile: str) -> None:
    assert schedule.last_replay_at(NOW, Rotation.parse(profile)) < 0


def test_after_its_grace_a_server_is_strict() -> None:
    rotation = Rotation(RotationProfile.GRACE, 30.0)
    assert replay(rotation, UnknownOutcome.PAUSE, attempts=1, age=1.0) == 0.0
    assert replay(rotation, UnknownOutcome.PAUSE, attempts=1, age=15.0) is None
    assert replay(rotation, UnknownOutcome.REPLAY, attempts=1, age=15.0) == 0.0
    assert replay(rotation, UnknownOutcome.REPLAY, attempts=2, age=15.0) == 60.0


@given(lifetimes)
def test_intervals_keep_their_order(lifetime: float) -> None:
    assert schedule.floor_between(lifetime) == max(1.0, lifetime / 4)
    assert 1.0 <= schedule.request_interval(lifetime) <= 30.0
    assert 0 < schedule.mandatory_window(lifetime) <= min(300.0, lifetime / 4)
    assert schedule.request_interval(None) == schedule.mandatory_window(None) == 30.0
