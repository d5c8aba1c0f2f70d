import json
import time

import pytest
from multidict import CIMultiDict

from refresher.domain.outcomes import Outcome, OutcomeUnknown, Refreshed, RefreshTokenOnly
from refresher.oauth.documents import read_fields
from refresher.oauth.responses import classify
from tests.oauth.world import make_client


def outcome_of(body: bytes) -> Outcome:
    return classify(200, CIMultiDict[str](), body, make_client(), 1.8e9)


def refresh_token_in(body: bytes) -> str | None:
    outcome = outcome_of(body)
    assert isinstance(outcome, Refreshed | RefreshTokenOnly)
    token = outcome.answer.refresh_token
    return token.reveal() if token else None


@pytest.mark.parametrize(
    "body",
    [b"=" * 65536 + b"<", b"a=b&" * 16000 + b"<", b"a" * 65535 + b"=<", b"{" * 65536],
    ids=["equals", "pairs", "name", "braces"],
)
def test_no_answer_takes_long_to_read(body: bytes) -> None:
    started = time.thread_time()

    assert read_fields(body) is None
    assert time.thread_time() - started < 1


@pytest.mark.parametrize("nothing", ["null", '""', '" "'])
@pytest.mark.parametrize("order", ["{first}, {second}", "{second}, {first}"])
def test_a_second_field_that_says_nothing_is_no_answer(nothing: str, order: str) -> None:
    fields = order.format(first='"refresh_token": "RT2"', second=f'"refresh_token": {nothing}')

    assert refresh_token_in(f"{{{fields}}}".encode()) == "RT2"


def test_of_two_refresh_tokens_the_last_counts() -> None:
    assert refresh_token_in(b'{"refresh_token": "RT2", "refresh_token": "RT3"}') == "RT3"


def test_a_line_end_within_a_string_costs_no_token() -> None:
    body = b'{"access_token": "AT2", "refresh_token": "RT2", "note": "two\r\n\tlines"}'

    assert refresh_token_in(body) == "RT2"
    refusal = b'{"error": "invalid_grant", "error_description": "two\nlines"}'
    fields = read_fields(refusal)
    assert fields is not None
    assert fields["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "body",
    [
        b'{"access_token": "AT2", "refresh_token": "RT\r\n1a\r\n2"}',
        b'{"access_token": "AT2", "refresh_\r\n5\r\ntoken": "RT2"}',
        b'{"access_token": "A\nT2", "refresh_token": "RT2"}',
    ],
    ids=["token", "name", "access token"],
)
def test_a_line_end_within_a_token_or_a_name_leaves_the_answer_unread(body: bytes) -> None:
    outcome = outcome_of(body)

    assert isinstance(outcome, OutcomeUnknown)
    assert (outcome.body, outcome.may_hold_tokens) == (body, True)


def test_an_empty_second_value_of_a_form_is_no_answer() -> None:
    assert refresh_token_in(b"refresh_token=RT2&refresh_token=") == "RT2"


@pytest.mark.parametrize("wrapper", ["data", "body"])
@pytest.mark.parametrize("outer", [None, "", " "], ids=["null", "empty", "blank"])
def test_an_empty_token_beside_a_wrapper_hides_none(wrapper: str, outer: str | None) -> None:
    inner = {"access_token": "AT2", "refresh_token": "RT2"}
    body = json.dumps({"access_token": outer, "refresh_token": outer, wrapper: inner}).encode()

    assert isinstance(outcome_of(body), Refreshed)
    assert refresh_token_in(body) == "RT2"


def test_too_deep_an_answer_is_kept_whole() -> None:
    body = b'{"x": ' + b"[" * 30000 + b"]" * 30000 + b', "refresh_token": "RT2"}'

    assert outcome_of(body) == OutcomeUnknown(
        reason="unreadable", status=200, body=body, may_hold_tokens=True
    )


@pytest.mark.parametrize(
    ("form", "token"),
    [
        (b"refresh_token=a%2Bb", "a+b"),
        (b"refresh_token=a%zzb%", "a%zzb%"),
        (b"refresh_token=a%00b", "a\0b"),
        (b"refresh_token=a%C3%A9b", "a\xe9b"),
        (b"\xef\xbb\xbfrefresh_token=ab\r\n", "ab"),
        (b"refresh_token=a=b==", "a=b=="),
        (b"refresh_token=ab&" + b"&".join(b"x%d=1" % number for number in range(90)), "ab"),
    ],
    ids=["plus", "no escape", "nul", "utf-8", "bom", "equals", "many fields"],
)
def test_a_form_is_read_whatever_its_escapes(form: bytes, token: str) -> None:
    assert refresh_token_in(form) == token


@pytest.mark.parametrize("form", [b"access_token=AT2&refresh_token=a%C3", b"access_token=A&x=%ff"])
def test_a_broken_escape_yields_no_broken_token(form: bytes) -> None:
    assert refresh_token_in(form) is None
