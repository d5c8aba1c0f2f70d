"""Answers of real servers, damaged: what is intact is adopted, what is not never is."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from refresher.domain.outcomes import GrantRejected, Outcome, Refreshed, RefreshTokenOnly
from refresher.oauth.responses import classify
from tests.oauth.test_responses_fuzz import OBJECTS, OUTCOMES, SUCCESSES, TOKENS
from tests.oauth.world import make_client

CLIENT = make_client(extras=("instance_url", "team"), scope_separator=",")
TOKEN = "canary-Zm9v.8c2f/1d+0=="
PAIR = {"access_token": "ya29.a0Af-x", "refresh_token": TOKEN, "token_type": "Bearer"}

JSON_ANSWERS = [
    json.dumps(fields, **style).encode()
    for fields in (
        PAIR | {"expires_in": 3599, "scope": "openid email"},  # Google, Entra
        PAIR | {"expires_in": "3600", "x_refresh_token_expires_in": 8726400},  # Intuit
        PAIR | {"instance_url": "https://x.example", "issued_at": "1700000000000"},  # Salesforce
        PAIR | {"ok": True, "team": {"id": "T1", "name": "caf\xe9"}, "expires_in": 43200},  # Slack
        {"status": 0, "body": PAIR | {"userid": 1, "expires_in": 10800}},  # Withings
        {"code": 0, "message": "OK", "data": PAIR | {"refresh_expires_in": 86400}},  # TikTok
        {"refresh_token": TOKEN, "error": "invalid_scope"},
    )
    for style in ({}, {"indent": 2}, {"separators": (",", ":"), "ensure_ascii": False})
]
FORM_ANSWERS = [
    b"access_token=ghu_16C7e42F&expires_in=28800&refresh_token=ghr_1B4a2e77838347a7E420ce178F2E7c",
    b"refresh_token=ghr_1B4a2e77838347a7E420ce178F2E7c&scope=&token_type=bearer&access_token=A%2F",
]
CODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le",
           "utf-32-be"]  # fmt: skip
ODD_VALUES = ["NaN", "-Infinity", "1e999", "9" * 5000, "-0", r'"\ud800"', r'"\u0000"', "[[[]]]",
              '{"refresh_token": "inner"}', "null", "true"]  # fmt: skip
ABSENT = ["null", '""', '"\\n "']

NAMES = ["x", "expires_in", "access_token", "error", "scope"]

company = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(ODD_VALUES))
    | st.tuples(st.just("refresh_token"), st.sampled_from(ABSENT)),
    max_size=5,
)
"""Pairs as they stand in the text: names come twice, values no writer of JSON would write."""

quick = settings(max_examples=60, deadline=None, database=None)

Damage = Callable[[bytearray], None]


def _at(position: int, change: Callable[[bytearray, int], None]) -> Damage:
    return lambda body: change(body, position % (len(body) or 1)) if body else None


def _flipped(bit: int) -> Callable[[bytearray, int], None]:
    def flip(body: bytearray, position: int) -> None:
        body[position] ^= 1 << bit

    return flip


def _inserted(extra: bytes) -> Callable[[bytearray, int], None]:
    def insert(body: bytearray, position: int) -> None:
        body[position:position] = extra

    return insert


def _cut(length: int) -> Callable[[bytearray, int], None]:
    def cut(body: bytearray, position: int) -> None:
        del body[position : position + length]

    return cut


def _repeated(length: int) -> Callable[[bytearray, int], None]:
    def repeat(body: bytearray, position: int) -> None:
        body[position:position] = body[position : position + length]

    return repeat


positions = st.integers(0, 400)
damages = st.lists(
    st.builds(
        _at,
        positions,
        st.one_of(
            st.integers(0, 7).map(_flipped),
            st.one_of(
                st.binary(min_size=1, max_size=6),
                st.sampled_from([b"\0", b"\xef\xbb\xbf", b'"', b"\\u", b"}", b"{", b"%", b"NaN"]),
            ).map(_inserted),
            st.integers(1, 60).map(_cut),
            st.integers(1, 60).map(_repeated),
        ),
    ),
    min_size=1,
    max_size=4,
)


def outcome_of(body: bytes, status: int = 200, broken: str | None = None) -> Outcome:
    return classify(status, CIMultiDict[str](), body, CLIENT, 1.8e9, broken=broken)


def adopted(outcome: Outcome) -> str | None:
    if isinstance(outcome, Refreshed | RefreshTokenOnly) and outcome.answer.refresh_token:
        return outcome.answer.refresh_token.reveal()
    return None


def plain_reading(body: bytes) -> str | None:
    """The refresh token an ordinary reader of JSON finds at the top of BODY, if any."""
    try:
        fields: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    token = fields.get("refresh_token") if isinstance(fields, dict) else None
    return token if isinstance(token, str) else None


@settings(quick, max_examples=150)
@given(st.sampled_from(JSON_ANSWERS + FORM_ANSWERS), damages, st.sampled_from([200, 400, 502]))
def test_damage_neither_raises_nor_shows_a_token(
    answer: bytes, damage: list[Damage], status: int
) -> None:
    body = bytearray(answer)
    for change in damage:
        change(body)
    outcome = outcome_of(bytes(body), status)

    assert isinstance(outcome, OUTCOMES)
    assert not isinstance(outcome, GrantRejected)
    assert "canary" not in repr(outcome)
    if status == 200 and plain_reading(bytes(body)) == TOKEN:
        assert adopted(outcome) == TOKEN
    if status != 200:
        assert adopted(outcome) is None


@quick
@given(st.sampled_from(JSON_ANSWERS), st.integers(0, 400), st.sampled_from([None, "truncated"]))
def test_no_beginning_of_an_object_yields_half_a_token(
    answer: bytes, length: int, broken: str | None
) -> None:
    assert adopted(outcome_of(answer[:length], broken=broken)) in {None, TOKEN}


@quick
@given(st.sampled_from(FORM_ANSWERS), st.integers(0, 120))
def test_no_form_that_broke_off_yields_a_token(answer: bytes, length: int) -> None:
    assert adopted(outcome_of(answer[:length], broken="truncated")) is None


@settings(quick, max_examples=120)
@given(SUCCESSES, OBJECTS, TOKENS, company, st.data())
def test_an_intact_refresh_token_is_adopted(
    status: int,
    fields: dict[str, Any],
    token: str,
    beside: list[tuple[str, str]],
    data: st.DataObject,
) -> None:
    pairs = [(name, json.dumps(value)) for name, value in fields.items()] + beside
    pairs.append(("refresh_token", json.dumps(token)))
    shuffled = data.draw(st.permutations(pairs))
    text = ", ".join(f"{json.dumps(name)}: {value}" for name, value in shuffled)
    coding = data.draw(st.sampled_from(CODINGS))

    outcome = outcome_of(f" {{{text}}}\n".encode(coding), status)

    assert adopted(outcome) == token


@quick
@given(st.text(st.characters(min_codepoint=0xA0, max_codepoint=0xFF), min_size=1), TOKENS)
def test_another_charset_beside_it_costs_no_refresh_token(note: str, token: str) -> None:
    text = json.dumps({"note": note, "refresh_token": token}, ensure_ascii=False)

    assert adopted(outcome_of(text.encode("latin-1"))) == token
