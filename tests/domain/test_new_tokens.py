"""What a new token does to a grant: its life, its next refresh, and its doubts."""

from dataclasses import replace

import pytest

from refresher.domain.adoption import adopt_authorization, read_tokens
from refresher.domain.clients import Client, Rotation
from refresher.domain.grants import GrantState
from refresher.domain.outcomes import (
    RefreshTokenOnly,
    TokenAnswer,
)
from refresher.domain.secret import Secret
from refresher.domain.transition import transition
from tests.domain.world import (
    GRACE,
    LIFE,
    NONE,
    NOW,
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
    ("client", "life", "warnings"),
    [
        (make_client(default_expires_in=120.0), 120.0, 0),
        (make_client(), 3600.0, 1),
    ],
    ids=["of the client", "assumed"],
)
def test_a_missing_life_is_assumed(client: Client, life: float, warnings: int) -> None:
    change = apply(answered(expires_in=None), client=client)
    assert change.grant.expires_at == NOW + life
    assert len(change.warnings) == warnings


def test_the_known_end_of_a_refresh_token_is_kept() -> None:
    first = apply(answered(refresh_token_expires_in=86_400.0)).grant
    assert first.refresh_token_expires_at == NOW + 86_400
    assert apply(answered(), first).grant.refresh_token_expires_at == NOW + 86_400


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


def test_tokens_are_read_from_the_instant_given() -> None:
    tokens, _ = read_tokens(make_client(), answered(refresh_token_expires_in=9.0).answer, NOW - 5)
    assert (tokens.issued_at, tokens.expires_at) == (NOW - 5, NOW - 5 + LIFE)
    assert tokens.refresh_token_expires_at == NOW + 4


@pytest.mark.parametrize(
    ("scope", "warned"),
    [("read", True), ("", False), (None, False), ("write read", False), ("read write x", False)],
)
def test_a_scope_that_narrows_is_doubted(scope: str | None, warned: bool) -> None:  # noqa: FBT001  a parameter
    claim = replace(claimed(make_grant()), granted_scope="read write")
    change = transition(claim, make_client(), answered(scope=scope or None), happened())
    assert (change.warnings != ()) is warned
    if warned:
        assert change.warnings == ("the scope narrowed: 1 of its values are gone",)
