"""An answer that breaks off: its refresh token counts if all of it came."""

import gzip
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from refresher.domain.outcomes import OutcomeUnknown, RefreshTokenOnly
from refresher.oauth.responses import classify
from tests.oauth.test_responses_fuzz import OBJECTS, quick
from tests.oauth.test_responses_fuzz import TOKENS as TOKEN_TEXTS
from tests.oauth.world import make_client


def found_in(body: bytes, *, broken: str | None = "truncated", status: int = 200) -> str | None:
    outcome = classify(
        status,
        CIMultiDict[str](),
        body,
        make_client(),
        1.8e9,
        broken=broken,
        sent={"refresh_token": "RT1"},
    )
    if not isinstance(outcome, RefreshTokenOnly):
        assert isinstance(outcome, OutcomeUnknown)
        return None
    assert outcome.answer.is_searched
    assert "the answer was cut off: only its refresh token counts" in outcome.answer.warnings
    assert outcome.answer.access_token is None
    assert outcome.answer.refresh_token is not None
    return outcome.answer.refresh_token.reveal()


@pytest.mark.parametrize("broken", ["truncated", "timeout", "too_large", None])
@pytest.mark.parametrize(
    "body",
    [
        b'{"refresh_token":"RT2"',
        b'{"refresh_token": "RT2" ,',
        b'\xef\xbb\xbf\r\n{"refresh_token": "RT2", "access_token": "AT',
        b'{"access_token": "AT2", "refresh_token": "RT2", "expires_in": 36',
        b'{"error": "x", "refresh_token": "RT2", "error_description": "caf\xc3',
        b'{"x": {"y": [1, {"z": null}]}, "refresh_token": "RT2", "user": {"name": "a',
        b'{"status": 0, "body": {"access_token": "AT2", "refresh_token": "RT2", "sc',
        b'{"refresh_token": "null", "refresh_token": "RT2", "x',
        b'{"refresh_token": "RT2", "deep": ' + b"[" * 3000,
        '{"refresh_token": "RT2", "x": "y'.encode("utf-16"),
        '{"refresh_token": "RT2", "x": "y'.encode("utf-16-le")[:-1],
    ],
    ids=ascii,
)
def test_a_whole_refresh_token_counts(body: bytes, broken: str | None) -> None:
    assert found_in(body, broken=broken) == "RT2"


def test_a_cut_compression_gives_what_came_out() -> None:
    noise = "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(99))
    whole = json.dumps({"refresh_token": "RT2", "access_token": noise}).encode()
    assert found_in(gzip.compress(whole)[:-900]) == "RT2"


@pytest.mark.parametrize(
    "body",
    [
        b'{"refresh_token":"RT2',
        b'{"refresh_token":"RT2\\"',
        b'{"refresh_token":"RT2" x',
        b'{"refresh_token":"RT"2", "x": 1',
        b'{"refresh_token":"RT1", "x',
        b'{"refresh_token":"", "x',
        b'{"refresh_token":"undefined", "x',
        b'{"x": {"refresh_token":"RT2"}, "y',
        b'{"x": "\\"refresh_token\\":\\"RT2\\"", "y',
        b'{"access_token":"AT2", "expires_in": 3600, "x',
        b'{"refresh_token":"RT2", ## "refresh_token": "RT3"}',
        b'{"refresh_token":"RT2"} {"refresh_token": "RT3"',
        b'{"refresh_token":"RT\xff2", "x',
        b'{"body": {"x": {"refresh_token": "RT2"}, "y',
        b'"refresh_token":"RT2", "x',
        b"refresh_token=RT2&access_token=A",
        b'{refresh_token: "RT2", "x',
        b"{'refresh_token': 'RT2', 'x",
        b"{",
        b"",
    ],
    ids=ascii,
)
def test_anything_less_does_not(body: bytes) -> None:
    assert found_in(body) is None


@pytest.mark.parametrize("status", [500, 502, 599])
def test_only_a_success_counts(status: int) -> None:
    assert found_in(b'{"refresh_token": "RT2", "x', status=status) is None


@quick
@given(OBJECTS, OBJECTS, TOKEN_TEXTS, st.booleans(), st.data())
def test_a_cut_behind_it_costs_no_refresh_token_and_one_in_it_gives_none(
    before: dict[str, Any],
    behind: dict[str, Any],
    token: str,
    ascii_only: bool,  # noqa: FBT001
    data: st.DataObject,
) -> None:
    pairs = [*before.items(), ("refresh_token", token), *behind.items()]
    members = [
        f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=ascii_only)}" for name, value in pairs
    ]
    try:
        whole = ("{" + ", ".join(members)).encode()
        told = ("{" + ", ".join(members[: len(before) + 1])).encode()
    except UnicodeEncodeError:
        return  # half a surrogate pair has no bytes
    cut = whole[: data.draw(st.integers(0, len(whole)))]

    assert found_in(cut) == (token if len(cut) >= len(told) else None)
