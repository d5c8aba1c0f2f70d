"""When a lease may be taken over: each row of the rule, and its bounds."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresher.domain import leases, schedule
from refresher.domain.grants import Grant
from refresher.domain.leases import Holder, Lease
from refresher.domain.quirks import Rotation, RotationProfile
from tests.domain.world import GRACE, LIFE, NONE, NOW, STRICT, UNTIL_USED, claimed, make_grant

UNKNOWN = Rotation(RotationProfile.UNKNOWN)
LENGTH = leases.length(30.0)
LEASE = Lease(NOW, NOW + LENGTH)

SILENT = Holder(heard_at=NOW)
DEAD = Holder(heard_at=NOW, gone_at=NOW + 1.0)
FOUND_GONE_LATE = Holder(heard_at=NOW, gone_at=NOW + leases.VANISHED_WITHIN + 1.0)
UNHEARD_OF = Holder()


def taken_over_at(grant: Grant, rotation: Rotation, holder: Holder, lease: Lease = LEASE) -> float:
    """After how many seconds the lease may first be taken over."""
    for tenth in range(80_000):
        if leases.may_take_over(grant, rotation, lease, holder, NOW + tenth / 10):
            return tenth / 10
    raise AssertionError("never")


OUT = claimed(make_grant(left=900.0)).grant
"""A grant whose token lives a quarter of an hour more: its mandatory window begins after ten
minutes, long after the lease."""
WITHOUT_TOKEN = claimed(make_grant(left=None)).grant
SHORT = claimed(replace(make_grant(), issued_at=NOW - 60.0, expires_at=NOW + 120.0)).grant
"""Its window begins at second 75, and the lease ends at second 110."""


@pytest.mark.parametrize(
    ("grant", "rotation", "holder", "seconds"),
    [
        pytest.param(make_grant(), STRICT, SILENT, 3.1, id="nothing is out"),
        pytest.param(OUT, NONE, SILENT, 3.1, id="replays freely"),
        pytest.param(OUT, UNTIL_USED, SILENT, 3.1, id="replays until used"),
        pytest.param(OUT, GRACE, SILENT, 3.1, id="replays inside its window"),
        pytest.param(OUT, Rotation(RotationProfile.GRACE, 10.0), SILENT, 600.0, id="window over"),
        pytest.param(OUT, STRICT, DEAD, 4.0, id="known to be dead"),
        pytest.param(OUT, UNKNOWN, DEAD, 4.0, id="known to be dead, rotation unknown"),
        pytest.param(OUT, STRICT, SILENT, 600.0, id="silent: the live token is used up"),
        pytest.param(OUT, UNKNOWN, SILENT, 600.0, id="silent, rotation unknown"),
        pytest.param(OUT, STRICT, FOUND_GONE_LATE, 600.0, id="cut off first, gone later"),
        pytest.param(OUT, STRICT, UNHEARD_OF, 600.0, id="no trace of its holder"),
        pytest.param(SHORT, STRICT, SILENT, 110.0, id="never before the lease ends"),
        pytest.param(WITHOUT_TOKEN, STRICT, SILENT, 170.0, id="no token to live on"),
        pytest.param(WITHOUT_TOKEN, STRICT, DEAD, 4.0, id="no token, known to be dead"),
    ],
)
def test_a_lease_is_taken_over_when_waiting_saves_no_more(
    grant: Grant, rotation: Rotation, holder: Holder, seconds: float
) -> None:
    assert taken_over_at(grant, rotation, holder) == pytest.approx(seconds, abs=0.11)


@given(st.floats(0, 3.0), st.sampled_from([NONE, STRICT]), st.none() | st.floats(-10.0, 0.0))
def test_whoever_is_heard_of_keeps_what_it_has(
    ago: float, rotation: Rotation, gone: float | None
) -> None:
    now = NOW + 10_000.0
    holder = Holder(heard_at=now - ago, gone_at=None if gone is None else now + gone)
    assert not leases.may_take_over(OUT, rotation, LEASE, holder, now)


def test_a_claim_is_a_sign_of_life() -> None:
    holder = Holder(heard_at=NOW - 2.5)
    assert taken_over_at(OUT, NONE, holder) == pytest.approx(3.1)


def test_a_backend_that_is_gone_proves_nothing_until_its_holder_had_time_to_come_back() -> None:
    assert not DEAD.is_dead(NOW + 3.9)
    assert DEAD.is_dead(NOW + 4.0)


@given(st.floats(1, 400), st.floats(1, 1e7), st.floats(0, 1))
def test_no_silent_holder_is_deprived_of_an_answer_it_may_still_read(
    timeout: float, lifetime: float, passed: float
) -> None:
    """Whatever the tokens' life: not before the last instant at which it may read."""
    issued = NOW - passed * lifetime
    grant = claimed(replace(make_grant(), issued_at=issued, expires_at=issued + lifetime)).grant
    lease = Lease(NOW, NOW + leases.length(timeout))
    last_read = NOW + leases.SEND_WITHIN + leases.CONNECTING + max(timeout, 90.0)
    assert schedule.waiting(STRICT, timeout, grant.intent, NOW, None).reading <= max(timeout, 90.0)  # type: ignore[arg-type]  # it has one
    until = leases.waited_for_until(grant, lease)
    assert until >= lease.ends_at > last_read
    assert until <= max(lease.ends_at + leases.AFTER_END, issued + lifetime)


def test_a_token_that_a_clock_ahead_has_dated_ends_no_later_than_it_can_live() -> None:
    misdated = replace(OUT, issued_at=NOW + 7_200.0 - LIFE, expires_at=NOW + 7_200.0)
    assert leases.waited_for_until(misdated, LEASE) <= NOW + LIFE


@pytest.mark.parametrize(
    ("taken", "heard", "now", "may"),
    [
        pytest.param(0.0, 9.0, 10.0, True, id="in time"),
        pytest.param(0.0, 10.0, 10.5, False, id="claimed long ago"),
        pytest.param(0.0, -5.0, 2.9, True, id="the claim itself was heard"),
        pytest.param(0.0, 1.0, 4.5, False, id="silent since"),
    ],
)
def test_a_holder_sends_nothing_that_may_be_taken_over(
    taken: float, heard: float, now: float, *, may: bool
) -> None:
    assert leases.may_begin(taken, heard, now) is may
