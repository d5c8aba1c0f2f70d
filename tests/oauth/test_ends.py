"""When an access token ends: every way in which servers were seen to tell it."""

import base64
import json
import time
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from refresher.domain.outcomes import Refreshed, TokenAnswer
from refresher.domain.quirks import LifetimeUnit
from refresher.domain.schedule import LONGEST_EXPIRES_IN
from refresher.oauth.answers import read_answer
from refresher.oauth.responses import classify
from tests.oauth.test_responses_fuzz import VALUES, quick
from tests.oauth.world import make_client

NOW = 1_800_000_000.0
END = int(NOW) + 600
MOMENT = datetime.fromtimestamp(END, UTC)
ISO = MOMENT.strftime("%Y-%m-%dT%H:%M:%S")


def answer_of(**fields: Any) -> TokenAnswer:
    client = make_client(expires_in_unit=fields.pop("unit", LifetimeUnit.SECONDS))
    return read_answer({"access_token": "AT2", **fields}, client, NOW)


def jwt(**claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.sig"


@pytest.mark.parametrize(
    "name",
    ["expires_in", "expiresIn", "ExpiresIn", "expires-in", "expire_in", "expiry_in", "expires",
     "access_token_expires_in", "accessTokenExpiresIn", "token_expires_in", "Expires", "expiry",
     ".expires", "expiration", "expires_at"],
)  # fmt: skip
@pytest.mark.parametrize("value", [600, "600", 600.0, " 600.0 "], ids=repr)
def test_a_duration_is_known_by_its_size(name: str, value: object) -> None:
    answer = answer_of(**{name: value})

    assert (answer.expires_in, answer.ends_in) == (600.0, None)
    assert answer.warnings == ()


@pytest.mark.parametrize(
    "text", ["600s", "600 seconds", "10m", "10 min", "0h10m0s", "PT10M", "pt600s"]
)
def test_a_duration_may_have_units(text: str) -> None:
    assert answer_of(expires_in=text).expires_in == 600.0


@pytest.mark.parametrize(
    "name",
    ["expires_in", "expires_at", "expires_on", "expiry", "expires", ".expires", "expiration",
     "expiresAt", "expiresOn", "expires_date", "expiration_date", "expiry_time", "exp",
     "accessTokenExpiresAt", "access_token_expires_at", "tokenExpiry"],
)  # fmt: skip
@pytest.mark.parametrize(
    "value",
    [
        END, float(END), END + 0.5, str(END), f"{END}.75", END * 1000, str(END * 1000),
        END * 1_000_000, f"/Date({END}000)/", f"/Date({END}000+0200)/",
        ISO, f"{ISO}Z", f"{ISO}.25Z", f"{ISO}.1234567Z", f"{ISO}+00:00", f"{ISO}+0000",
        f"{ISO} +0000", f"{ISO} UTC", ISO.replace("T", " "), f" {ISO}z ",
        MOMENT.strftime("%Y%m%dT%H%M%SZ"),
        formatdate(END, usegmt=True), formatdate(END),
        MOMENT.strftime("%A, %d-%b-%y %H:%M:%S GMT"), MOMENT.strftime("%a %b %e %H:%M:%S %Y"),
        MOMENT.strftime("%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)"),
    ],
    ids=str,
)  # fmt: skip
def test_an_instant_is_understood(name: str, value: object) -> None:
    answer = answer_of(**{name: value})

    assert answer.expires_in == pytest.approx(600, abs=1)
    assert answer.ends_in == answer.expires_in
    assert answer.warnings == ()


def test_a_zone_is_heeded() -> None:
    text = datetime.fromtimestamp(END + 7200, UTC).strftime("%Y-%m-%dT%H:%M:%S+02:00")
    assert answer_of(expires_at=text).expires_in == 600.0


@pytest.mark.parametrize("value", [END + 9000, END - 601, 0, "", None, "null", ISO[:4]], ids=repr)
def test_a_duration_wins_over_an_instant(value: object) -> None:
    assert answer_of(expires_in=600, expires_at=value).expires_in == 600.0
    assert answer_of(expires_at=value, expiresIn="600").expires_in == 600.0


def test_an_earlier_end_beside_a_duration_counts() -> None:
    answer = answer_of(expires_in=3600, expires_at=END)
    assert (answer.expires_in, answer.ends_in) == (600.0, 600.0)
    assert answer_of(expires_in=3600, access_token=jwt(exp=END)).expires_in == 600.0


def test_the_exact_name_beats_its_relatives() -> None:
    assert answer_of(expiresIn=60, expires_in=600, EXPIRES_IN=70).expires_in == 600.0


@pytest.mark.parametrize("value", ["soon", "never", -5, NOW - 1, "1999-12-31", 1e300, "2026-13-45"])
def test_what_is_not_understood_is_said(value: object) -> None:
    answer = answer_of(expires_at=value)
    assert answer.expires_in is None
    assert answer.warnings == ("expires_at is not understood as the end of the access token",)
    beside = answer_of(expires_at=value, expires_in=600)
    assert (beside.expires_in, len(beside.warnings)) == (600.0, 1)


@pytest.mark.parametrize(
    "name",
    ["ext_expires_in", "refresh_expires_in", "refresh_token_expires_in", "id_token_expires_in",
     "issued_at", "created_at", "expires_in_hint", "not_before"],
)  # fmt: skip
def test_the_end_of_something_else_is_none(name: str) -> None:
    assert answer_of(**{name: END}).expires_in is None


@pytest.mark.parametrize("value", [631138518, "631138518", 2**31 - 1, 2**63 - 1, 99999999999])
def test_a_very_long_life_is_believed_as_a_long_one(value: object) -> None:
    assert answer_of(expires_in=value).expires_in == pytest.approx(LONGEST_EXPIRES_IN, rel=0.2)
    assert (answer_of(expires_in=value).expires_in or 0) <= LONGEST_EXPIRES_IN


def test_milliseconds_are_those_of_the_client() -> None:
    unit = LifetimeUnit.MILLISECONDS
    assert answer_of(unit=unit, expires_in=600_000).expires_in == 600.0
    assert answer_of(unit=unit, expires_in=END * 1000).expires_in == 600.0
    assert answer_of(unit=unit, expires_at=ISO).expires_in == 600.0
    assert answer_of(unit=unit, expires_in="600s").expires_in == 600.0


@pytest.mark.parametrize("exp", [END, float(END), str(END), f"{END}.0", END * 1000, f"{ISO}Z"])
def test_a_jwt_tells_its_end(exp: object) -> None:
    answer = answer_of(access_token=jwt(exp=exp, iat=NOW - 30))
    assert (answer.expires_in, answer.ends_in, answer.since_issue) == (600.0, 600.0, 30.0)


def test_a_jwt_that_is_over_is_said_only_where_nothing_else_is() -> None:
    assert answer_of(access_token=jwt(exp=NOW - 9)).warnings == (
        "the exp of a JWT is not understood as the end of the access token",
    )
    assert answer_of(access_token=jwt(exp=NOW - 9), expires_in=600).warnings == ()


@pytest.mark.parametrize("value", [END, f"{ISO}Z", "600"])
def test_the_refresh_tokens_end_may_be_an_instant(value: object) -> None:
    assert answer_of(refresh_token_expires_at=value).refresh_token_expires_in == 600.0


@pytest.mark.parametrize("skew", [-90_000, -3600, -2, 0, 2, 3600, 90_000])
@pytest.mark.parametrize("told", ["expires_at", "jwt"])
def test_a_servers_clock_does_not_matter(skew: int, told: str) -> None:
    end = END + skew
    fields = (
        {"expires_at": end, "access_token": "AT2"}
        if told == "expires_at"
        else {"access_token": jwt(exp=end, iat=end - 600)}
    )
    headers = CIMultiDict({"date": formatdate(NOW + skew, usegmt=True)})
    outcome = classify(200, headers, json.dumps(fields).encode(), make_client(), NOW)

    assert isinstance(outcome, Refreshed)
    assert outcome.answer.expires_in is not None
    assert 599 <= outcome.answer.expires_in <= 600, "never later than it is (G1)"


@pytest.mark.parametrize("date", [None, "", "yesterday", "0"])
def test_without_a_date_our_clock_counts(date: str | None) -> None:
    headers = CIMultiDict({} if date is None else {"Date": date})
    body = json.dumps({"access_token": "AT2", "expires_on": str(END)}).encode()
    outcome = classify(200, headers, body, make_client(), NOW)

    assert isinstance(outcome, Refreshed)
    assert outcome.answer.expires_in == 600.0


def test_no_text_takes_long() -> None:
    started = time.thread_time()
    for text in (" " * 60000 + "UTC", "1" * 60000, "P" + "1" * 60000, "Mon, " * 9000, "T" * 60000):
        answer_of(expires_in=text, expires_at=text, expiry=text)
    assert time.thread_time() - started < 1


@quick
@given(
    st.dictionaries(
        st.sampled_from(["expires_in", "expires_at", ".expires", "Expiry", "exp", "valid_until"]),
        VALUES | st.datetimes().map(str) | st.floats(1e9, 1e19) | st.integers(0, 10**9),
    ),
    VALUES,
    st.sampled_from([1.0, 0.001]),
)
def test_whatever_is_told_an_end_is_ahead_or_unknown(
    fields: dict[str, Any], exp: object, unit: float
) -> None:
    name = LifetimeUnit.SECONDS if unit == 1.0 else LifetimeUnit.MILLISECONDS
    answer = answer_of(unit=name, **fields, access_token=jwt(exp=exp, iat=exp))

    for seconds in (answer.expires_in, answer.ends_in):
        assert seconds is None or 0 < seconds <= LONGEST_EXPIRES_IN
    assert answer.since_issue is None or answer.since_issue >= 0
