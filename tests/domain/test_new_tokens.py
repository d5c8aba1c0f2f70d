"""What a new token does to a grant: its life, its next refresh, and its doubts."""

from dataclasses import replace

import pytest

from refresher.domain.adoption import adopt_authorization, read_tokens
from refresher.domain.authorizing import seeded
from refresher.domain.clients import Client
from refresher.domain.endings import DAY, announced
from refresher.domain.grants import Fault, GrantState
from refresher.domain.outcomes import (
    RefreshTokenOnly,
    TokenAnswer,
)
from refresher.domain.quirks import Rotation
from refresher.domain.reasons import Reason
from refresher.domain.repairs import repair
from refresher.domain.secret import Secret
from refresher.domain.transition import transition
from tests.domain.world import (
    GRACE,
    LIFE,
    NONE,
    NOW,
    REJECTED,
    STRICT,
    UNTIL_USED,
    answered,
    apply,
    claimed,
    happened,
    make_client,
    make_grant,
)


def test_a_refreshed_grant_is_fresh_again() -> None:
    before = make_grant(-50.0, failures=4, reason="misconfigured:x")
    change = apply(answered(token_type="DPoP", scope="a b", extras={"k": "v"}), before)
    after, tokens = change.grant, change.tokens
    assert (after.state, after.reason, after.failures) == (GrantState.FRESH, None, 0)
    assert (after.intent, after.since) == (None, NOW)
    assert (after.issued_at, after.expires_at) == (NOW, NOW + LIFE)
    assert after.due_at == pytest.approx(NOW + 0.75 * LIFE)
    assert tokens is not None
    assert (tokens.access_token, tokens.refresh_token) == (Secret("at-1"), Secret("rt-1"))
    assert (tokens.token_type, tokens.scope, dict(tokens.extras)) == ("DPoP", "a b", {"k": "v"})
    assert (tokens.issued_at, tokens.expires_at) == (NOW, NOW + LIFE)
    assert change.warnings == ()


def test_a_life_counts_from_the_send() -> None:
    after = apply(answered(), took=25.0).grant
    assert (after.issued_at, after.expires_at) == (NOW, NOW + LIFE)


@pytest.mark.parametrize(
    ("rotation", "counted_from"),
    [(GRACE, NOW - 40), (UNTIL_USED, NOW - 40), (STRICT, NOW), (NONE, NOW)],
    ids=str,
)
def test_an_echo_counts_from_the_first_send(rotation: Rotation, counted_from: float) -> None:
    """Where a replay may bring the very token the first attempt made, it is as old as that."""
    client = make_client(rotation)
    replayed = apply(answered(), client=client, attempts=2, age=40.0).grant
    assert (replayed.issued_at, replayed.expires_at) == (counted_from, counted_from + LIFE)
    first = apply(answered(), client=client, attempts=1, age=40.0).grant
    assert first.issued_at == NOW


@pytest.mark.parametrize("life", [20.0, 60.0, 600.0, LIFE])
@pytest.mark.parametrize("age", [0.0, 15.0, 55.0, 500.0, 86_400.0])
def test_an_old_echo_is_followed_promptly(life: float, age: float) -> None:
    """What is left of it decides: nobody waits without a token while one could be had."""
    client = make_client(UNTIL_USED)
    after = apply(answered(expires_in=life), client=client, attempts=2, age=age).grant
    assert after.expires_at is not None
    assert after.due_at is not None
    assert NOW + 1.0 <= after.due_at <= max(after.expires_at, NOW + 1.0)


def test_the_servers_refresh_instant_is_honoured() -> None:
    after = apply(answered(refresh_in=1800.0)).grant
    assert after.due_at == pytest.approx(NOW + 1800.0 * 1.025)


def test_an_absurdly_early_refresh_keeps_the_floor() -> None:
    assert apply(answered(refresh_in=1.0)).grant.due_at == NOW + LIFE / 4


@pytest.mark.parametrize("life", [0.5, 1.0, 2.0])
def test_a_tiny_life_is_no_hot_loop(life: float) -> None:
    after = apply(answered(expires_in=life)).grant
    assert after.due_at is not None
    assert after.due_at >= NOW + 1.0


def test_an_idle_life_is_kept_awake() -> None:
    client = make_client(refresh_token_idle=1000.0)
    assert apply(answered(), client=client).grant.due_at == NOW + 500


def test_an_answer_that_comes_too_late_is_expired() -> None:
    after = apply(answered(expires_in=10.0), took=20.0).grant
    assert after.state is GrantState.EXPIRED
    assert after.due_at is not None
    assert after.due_at <= NOW + 30


@pytest.mark.parametrize(
    ("client", "last_life", "life", "warnings"),
    [
        (make_client(default_expires_in=120.0), None, 120.0, 0),
        (make_client(), None, 3600.0, 1),
        (make_client(), 20.0, 20.0, 0),
        (make_client(default_expires_in=7200.0), 20.0, 20.0, 0),
        (make_client(default_expires_in=900.0), 3600.0, 900.0, 0),
    ],
    ids=["the client's", "an hour", "the last", "the last before the client's", "corrected"],
)
def test_a_missing_life_is_assumed(
    client: Client, last_life: float | None, life: float, warnings: int
) -> None:
    before = make_grant(None)
    if last_life is not None:
        before = replace(before, issued_at=NOW - 9, expires_at=NOW - 9 + last_life)
    for change in (
        apply(answered(expires_in=None), before, client=client),
        adopt_authorization(before, client, answered(expires_in=None).answer, happened()),
    ):
        assert change.grant.expires_at == NOW + life
        assert len(change.warnings) == warnings


@pytest.mark.parametrize(
    ("age", "attempts", "counted_from"),
    [
        (599.0, 2, NOW - 599),
        (600.0, 2, NOW - 600),
        (650.0, 2, NOW - 600),
        (691.0, 2, NOW),
        (90_000.0, 2, NOW),
        (90_000.0, 3, NOW - 600),
    ],
    ids=["inside", "at the end", "slow", "over", "over for long", "a second one between"],
)
def test_an_echo_is_no_older_than_the_grace_window(
    age: float, attempts: int, counted_from: float
) -> None:
    """Of three attempts the first may have been lost on its way and the second processed."""
    client = make_client(GRACE)
    after = apply(answered(), client=client, attempts=attempts, age=age).grant
    assert (after.issued_at, after.expires_at) == (counted_from, counted_from + LIFE)


def test_an_end_told_as_an_instant_is_true_of_an_echo() -> None:
    told = answered(expires_in=LIFE, ends_in=LIFE - 40)
    after = apply(told, client=make_client(GRACE), attempts=2, age=40.0).grant
    assert after.expires_at == NOW + LIFE - 40
    later = answered(expires_in=LIFE, ends_in=LIFE + 900)
    after = apply(later, client=make_client(GRACE), attempts=2, age=40.0).grant
    assert after.expires_at == NOW + LIFE - 40


def test_a_jwt_dates_itself_where_nothing_would_be_left() -> None:
    """A server that repeats its answer until it is used, asked a day later, may make a new one."""
    client = make_client(UNTIL_USED)
    jwt = answered(expires_in=LIFE, ends_in=LIFE - 100, since_issue=100.0)
    after = apply(jwt, client=client, attempts=2, age=86_400.0).grant
    assert (after.issued_at, after.expires_at) == (NOW - 100, NOW + LIFE - 100)
    assert after.state is GrantState.FRESH
    opaque = apply(answered(), client=client, attempts=2, age=86_400.0).grant
    assert (opaque.expires_at, opaque.state) == (NOW - 86_400 + LIFE, GrantState.EXPIRED)
    assert opaque.due_at == NOW + 1


def test_who_was_served_has_no_past() -> None:
    before = make_grant(
        failures=4,
        fault=Fault.GRANT,
        failing_since=NOW - 99,
        refused_at=NOW - 50,
        refusals=2,
        early_refusals=3,
    )
    for change in (
        apply(answered(), before, took=2.0),
        adopt_authorization(before, make_client(), answered().answer, happened(2.0)),
    ):
        after = change.grant
        assert (after.failures, after.fault, after.failing_since) == (0, None, None)
        assert (after.refused_at, after.refusals, after.early_refusals) == (None, 0, 0)
        assert after.served_at == NOW + 2


@pytest.mark.parametrize(
    ("left", "refusals", "known", "learned"),
    [
        (500.4, 2, None, 501.0),
        (100.0, 1, None, 360.0),
        (-30.0, 5, None, 360.0),
        (500.0, 1, 100.0, 500.0),
        (300.0, 0, 360.0, 360.0),
        (361.0, 0, 360.0, None),
        (900.0, 0, None, None),
    ],
    ids=["left", "at least a tenth", "at the end", "anew", "kept", "forgotten", "never"],
)
def test_a_window_is_learned_from_a_refusal_and_a_success(
    left: float, refusals: int, known: float | None, learned: float | None
) -> None:
    before = make_grant(left, early_refusals=refusals, refresh_window=known)
    assert apply(answered(), before).grant.refresh_window == learned


def test_a_short_life_has_a_window_of_ten_seconds() -> None:
    before = replace(make_grant(3.0), issued_at=NOW - 57, early_refusals=1)
    assert apply(answered(), before).grant.refresh_window == 10.0


def test_the_same_token_again_teaches_no_window() -> None:
    before = make_grant(900.0, refresh_window=360.0)
    assert apply(answered("at-0", expires_in=900.0), before).grant.refresh_window == 360.0


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
@pytest.mark.parametrize(
    ("of_client", "learned", "window"),
    [(300.0, None, 300.0), (None, 400.0, 400.0), (300.0, 400.0, 300.0), (400.0, 300.0, 300.0)],
)
def test_a_window_is_waited_for(
    of_client: float | None, learned: float | None, window: float, draw: float
) -> None:
    client = make_client(refresh_window=of_client, survive_outage=1500.0)
    claim = claimed(make_grant(250.0, refresh_window=learned))
    for answer in (answered(), answered(refresh_in=60.0)):
        after = transition(claim, client, answer, happened(draw=draw)).grant
        assert after.due_at is not None
        assert after.expires_at is not None
        assert 0.69 * window <= after.expires_at - after.due_at <= 0.9 * window


def test_a_wide_window_changes_nothing() -> None:
    client = make_client(refresh_window=LIFE)
    assert apply(answered(), client=client).grant.due_at == apply(answered()).grant.due_at


def test_the_known_end_of_a_refresh_token_is_kept() -> None:
    first = apply(answered(refresh_token_expires_in=86_400.0)).grant
    assert first.refresh_token_expires_at == NOW + 86_400
    assert apply(answered(), first).grant.refresh_token_expires_at == NOW + 86_400


def test_the_catalogues_life_counts_from_the_login_on() -> None:
    client = make_client(refresh_token_absolute=30 * DAY)
    login = adopt_authorization(make_grant(None), client, answered().answer, happened()).grant
    assert login.refresh_token_expires_at == NOW + 30 * DAY
    assert login.end_warning_at == NOW + 16 * DAY
    later = apply(answered(refresh_token_expires_in=60 * DAY), login, client=client).grant
    assert later.refresh_token_expires_at == NOW + 30 * DAY
    sooner = apply(answered(refresh_token_expires_in=20 * DAY), login, client=client).grant
    assert sooner.refresh_token_expires_at == pytest.approx(NOW + 20 * DAY, abs=2)
    assert sooner.end_warning_at == pytest.approx(NOW + 6 * DAY, abs=2)


def test_an_end_that_is_told_again_is_announced_once() -> None:
    """Its server tells what is left, a little more or less each time."""
    told = announced(apply(answered(refresh_token_expires_in=20 * DAY)).grant, NOW + 6 * DAY)
    again = apply(answered(refresh_token_expires_in=20 * DAY + 40), told).grant
    assert (again.end_announced, again.end_warning_at) == (14, told.end_warning_at)
    prolonged = apply(answered(refresh_token_expires_in=21 * DAY), told).grant
    assert prolonged.end_announced is None
    assert prolonged.end_warning_at == NOW + 7 * DAY


@pytest.mark.parametrize(("life", "left"), [(30 * DAY, 20 * DAY), (400 * DAY, 90 * DAY)])
def test_a_refresh_token_that_ends_first_is_used_before(life: float, left: float) -> None:
    """Many servers prolong it then."""
    after = apply(answered(expires_in=life, refresh_token_expires_in=left)).grant
    assert after.due_at == pytest.approx(NOW + left - DAY, abs=2)


def test_an_imported_refresh_token_is_kept_alive() -> None:
    grant = seeded(make_grant(None), NOW + 60 * DAY, NOW, 0.5, idle=30 * DAY)
    assert grant.due_at == NOW + 15 * DAY


def test_the_same_token_again_backs_off() -> None:
    """No progress: the server gives out what it gave before, until that has ended."""
    before = make_grant(900.0)
    change = apply(answered("at-0", expires_in=900.0), before)
    assert change.grant.reason == "no_progress"
    assert change.grant.due_at == NOW + 450
    assert change.warnings == ("the same access token came back: no progress",)
    longer = apply(answered("at-0"), before)
    assert longer.grant.reason is None
    assert longer.grant.due_at == pytest.approx(NOW + 0.75 * LIFE)


def test_a_lone_refresh_token_is_asked_with_again() -> None:
    answer = TokenAnswer(
        access_token=None,
        refresh_token=Secret("rt-1"),
        refresh_token_expires_in=86_400.0,
        warnings=("odd",),
    )
    change = apply(RefreshTokenOnly(answer=answer, status=200))
    assert change.tokens is not None
    assert change.tokens.refresh_token == Secret("rt-1")
    assert change.tokens.access_token is None
    assert (change.grant.intent, change.grant.failures) == (None, 1)
    assert change.grant.expires_at == NOW + 900
    assert change.grant.refresh_token_expires_at == NOW + 86_400
    assert change.grant.due_at is not None
    assert change.grant.due_at <= NOW + 5
    assert change.warnings == ("odd",)


def test_a_login_starts_everything_anew() -> None:
    dead = make_grant(
        -9.0,
        state=GrantState.REAUTHORIZATION_REQUIRED,
        reason="revoked:invalid_grant",
        failures=3,
        refresh_token_expires_at=NOW + 5,
    )
    change = adopt_authorization(dead, make_client(), answered().answer, happened())
    after = change.grant
    assert (after.state, after.reason, after.failures) == (GrantState.FRESH, None, 0)
    assert (after.authorization_serial, after.intent) == (3, None)
    assert after.due_at == pytest.approx(NOW + 0.75 * LIFE)
    assert after.refresh_token_expires_at is None


def test_a_login_without_a_refresh_token_is_not_scheduled() -> None:
    answer = answered(refresh_token=None).answer
    after = adopt_authorization(make_grant(None), make_client(), answer, happened()).grant
    assert (after.state, after.reason, after.due_at) == (GrantState.FRESH, "no_refresh_token", None)
    assert after.refresh_token_fingerprint is None


def test_tokens_are_dated_by_what_they_may_be_an_echo_of() -> None:
    answer = answered(refresh_token_expires_in=9.0).answer
    tokens, _ = read_tokens(make_grant(), make_client(), answer, happened(), made_at=NOW - 5)
    assert (tokens.issued_at, tokens.expires_at) == (NOW - 5, NOW - 5 + LIFE)
    assert tokens.refresh_token_expires_at == NOW + 4


ASKED = ("read", "write")


def test_a_narrowed_scope_is_told_until_all_of_it_is_granted() -> None:
    client = make_client(scope=ASKED)
    narrow = apply(answered(scope="read"), client=client).grant
    assert (narrow.state, narrow.reason) == (GrantState.FRESH, "scope_narrowed:write")
    unsaid = apply(answered("at-2", scope=None), narrow, client=client).grant
    assert unsaid.reason == "scope_narrowed:write", "it is as it was (RFC 6749 5.1)"
    whole = apply(answered("at-3", scope="write read"), unsaid, client=client).grant
    assert whole.reason is None


def test_a_narrowed_scope_is_told_at_the_login() -> None:
    client = make_client(scope=ASKED)
    answer = answered(scope="read").answer
    after = adopt_authorization(make_grant(None), client, answer, happened()).grant
    assert after.reason == "scope_narrowed:write"


LIVE = make_client(renews_with_access_token=True)


def test_an_access_token_that_renews_its_grant_ends_with_it() -> None:
    """A person is told of that only from when on its refresh has failed to prolong it."""
    first = apply(answered(expires_in=60 * DAY), client=LIVE).grant
    assert first.refresh_token_expires_at == first.expires_at == NOW + 60 * DAY
    assert (first.due_at, first.end_warning_at) == (NOW + 45 * DAY, NOW + 46 * DAY)
    told, attempt = answered(expires_in=60 * DAY, refresh_token=None), happened(draw=0.0)
    late = transition(claimed(first), LIVE, told, attempt).grant
    assert late.refresh_token_expires_at == NOW + 60 * DAY
    other = transition(claimed(make_grant()), LIVE, answered(expires_in=60 * DAY), attempt).grant
    assert (other.due_at, other.end_warning_at) == (NOW + 48 * DAY, NOW + 53 * DAY)
    short = apply(answered(expires_in=LIFE), client=LIVE).grant
    assert (short.refresh_token_expires_at, short.end_warning_at) == (NOW + LIFE, None)
    assert short.due_at == pytest.approx(NOW + 0.75 * LIFE)


@pytest.mark.parametrize(
    ("left", "client", "is_lost"),
    [(-1.0, LIVE, True), (60.0, LIVE, False), (-1.0, make_client(), False)],
    ids=["ended", "alive", "a refresh token"],
)
def test_the_refusal_of_an_ended_access_token_is_final(
    *, left: float, client: Client, is_lost: bool
) -> None:
    after = apply(REJECTED, make_grant(left, served_at=NOW - LIFE), client=client).grant
    assert (after.state is GrantState.REAUTHORIZATION_REQUIRED) is is_lost
    if is_lost:
        assert after.status_reason == Reason.TOKEN_ENDED
        assert repair(after) == "refresher login acme"


def test_the_token_of_a_login_is_exchanged_at_once() -> None:
    client = make_client(
        renews_with_access_token=True,
        exchange_grant_type="ig_exchange_token",
        default_expires_in=60 * DAY,
    )
    answer = answered(expires_in=None).answer
    login = adopt_authorization(make_grant(None), client, answer, happened()).grant
    assert (login.due_at, login.expires_at) == (NOW, NOW + LIFE)
    assert login.issued_at == login.authorized_at, "what the vault knows the first refresh by"
    after = apply(answered(expires_in=60 * DAY), login, client=client).grant
    assert after.due_at == NOW + 45 * DAY
