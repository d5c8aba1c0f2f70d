import json
import typing
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from refresher.domain.outcomes import GrantRejected, Outcome, Refreshed, RefreshTokenOnly
from refresher.domain.secret import Secret
from refresher.oauth.documents import is_there
from refresher.oauth.responses import classify
from tests.oauth.world import make_client

OUTCOMES = typing.get_args(Outcome)
CLIENT = make_client(extras=("scope", "id", "extra"), scope_separator=",")
STATUSES = st.integers(100, 999)
SUCCESSES = st.sampled_from([200, 201, 202, 206, 299])
TOKENS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=200
).filter(is_there)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**50), 10**50)
    | st.floats()
    | st.text()
    | st.sampled_from(["invalid_grant", "access_token", "a.e30.c", "1e999", "NaN"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["access_token", "expires_in", "refresh_in", "scope", "token_type", "error", "errors", "ok",
     "status", "code", "message", "id", "extra", "data", "body", "refresh_token_expires_in"]
)  # fmt: skip
OBJECTS = st.dictionaries(NAMES | st.text(), VALUES, max_size=8)
HEADERS = st.dictionaries(st.just("Retry-After"), st.text(max_size=40), max_size=1)

quick = settings(max_examples=60, deadline=None, database=None)


def outcome_of(
    status: int, body: bytes, headers: dict[str, str] | None = None, broken: str | None = None
) -> Outcome:
    return classify(status, CIMultiDict(headers or {}), body, CLIENT, 1.8e9, broken=broken)


@quick
@given(STATUSES, st.binary(), HEADERS, st.sampled_from([None, "truncated"]))
def test_no_bytes_make_it_raise(
    status: int, body: bytes, headers: dict[str, str], broken: str | None
) -> None:
    assert isinstance(outcome_of(status, body, headers, broken), OUTCOMES)


@quick
@given(STATUSES, OBJECTS, HEADERS)
def test_no_object_makes_it_raise(
    status: int, fields: dict[str, Any], headers: dict[str, str]
) -> None:
    assert isinstance(outcome_of(status, json.dumps(fields).encode(), headers), OUTCOMES)


@quick
@given(SUCCESSES, OBJECTS, TOKENS)
def test_no_company_loses_a_refresh_token(status: int, fields: dict[str, Any], token: str) -> None:
    body = json.dumps({**fields, "refresh_token": token}).encode()

    outcome = outcome_of(status, body)

    assert isinstance(outcome, Refreshed | RefreshTokenOnly)
    assert outcome.answer.refresh_token is not None
    assert outcome.answer.refresh_token.reveal() == token


@quick
@given(SUCCESSES, OBJECTS, TOKENS, st.data())
def test_no_cut_yields_half_a_token(
    status: int, fields: dict[str, Any], token: str, data: st.DataObject
) -> None:
    whole = json.dumps({**fields, "refresh_token": token}).encode()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]

    outcome = outcome_of(status, cut, broken="truncated")

    assert not isinstance(outcome, Refreshed | GrantRejected)
    is_there_in_full = cut.endswith(b'"refresh_token": ' + json.dumps(token).encode())
    assert isinstance(outcome, RefreshTokenOnly) is is_there_in_full
    if isinstance(outcome, RefreshTokenOnly):
        assert outcome.answer.refresh_token == Secret(token)


@quick
@given(STATUSES, OBJECTS)
def test_what_is_published_can_be_stored(status: int, fields: dict[str, Any]) -> None:
    body = json.dumps({**fields, "refresh_token": "RT2"}).encode()

    outcome = outcome_of(status, body)

    if isinstance(outcome, Refreshed | RefreshTokenOnly):
        answer = outcome.answer
        published = [answer.token_type, answer.scope or "", *answer.extras.values()]
        assert all(text.isprintable() and text.encode() is not None for text in published)


@quick
@given(STATUSES, TOKENS)
def test_an_echoed_token_is_never_shown(status: int, token: str) -> None:
    echoed = f"canary{token}"

    assert "canary" not in repr(outcome_of(status, json.dumps({"error": echoed}).encode()))
