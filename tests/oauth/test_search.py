"""The second reader: what it finds in a 2xx, and all that it must leave alone."""

import base64
import gzip
import html
import json
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from refresher.domain.outcomes import (
    GrantRejected,
    Outcome,
    OutcomeUnknown,
    Refreshed,
    RefreshTokenOnly,
    Transient,
)
from refresher.domain.secret import Secret
from refresher.oauth.compression import LARGEST_CONTENT, decompressed
from refresher.oauth.responses import classify
from tests.oauth.test_responses_fuzz import OUTCOMES, quick
from tests.oauth.test_responses_fuzz import TOKENS as TOKEN_TEXTS
from tests.oauth.world import make_client

SENT = {"grant_type": "refresh_token", "refresh_token": "RT1-presented"}
TOKENS = {"access_token": "AT2", "token_type": "Bearer", "refresh_token": "RT2", "expires_in": 60}
NOTICE = (
    "<br />\n<b>Notice</b>: Undefined index: refresh_token in <b>/srv/oauth.php</b> {closure} "
    'on line <b>42</b> (array key "access_token")<br />\n'
)

Wrap = Callable[[bytes], bytes]


def raw_deflate(body: bytes) -> bytes:
    return zlib.compress(body)[2:-4]


def quoted(body: bytes) -> bytes:
    return json.dumps(body.decode()).encode()


def under(*names: str) -> Wrap:
    def wrap(body: bytes) -> bytes:
        value: Any = json.loads(body)
        for name in reversed(names):
            value = {"status": "ok", name: value, "items": [1, 2]}
        return json.dumps(value).encode()

    return wrap


def around(before: str = "", after: str = "") -> Wrap:
    return lambda body: before.encode() + body + after.encode()


ENVELOPES: dict[str, Wrap] = {
    "gzip": gzip.compress,
    "gzip twice": lambda body: gzip.compress(gzip.compress(body)),
    "zlib": zlib.compress,
    "raw deflate": raw_deflate,
    "notice": around(NOTICE),
    "notice behind": around("", NOTICE),
    "warnings around": around("Warning: x\r\n", "\n<!-- 0.1 s -->"),
    "bom and crlf": lambda body: b"\xef\xbb\xbf\r\n\r\n" + body,
    "bom behind a notice": lambda body: NOTICE.encode() + b"\xef\xbb\xbf" + body,
    "xssi": around(")]}',\n"),
    "xssi facebook": around("for (;;);"),
    "xssi while": around("while(1); "),
    "jsonp": around("callback(", ");"),
    "jsonp commented": around("/**/ typeof f === 'function' && f(", ");"),
    "page": around("<html><head><style>p {color: red}</style></head><body><pre>", "</pre></body>"),
    "escaped page": lambda body: f"<html><pre>{html.escape(body.decode())}</pre>".encode(),
    "log line": around('{"level": "warn", "msg": "slow"}\n'),
    "array": around("[", "]"),
    "array behind xssi": around(")]}'\n[", "]"),
    "string": quoted,
    "string twice": lambda body: quoted(quoted(body)),
    "utf-16": lambda body: body.decode().encode("utf-16"),
    "utf-32": lambda body: body.decode().encode("utf-32-be"),
    "utf-16 array": lambda body: f"[{body.decode()}]".encode("utf-16-le"),
    "gzipped notice": lambda body: gzip.compress(NOTICE.encode() + body),
    "nested": under("result"),
    "nested twice": under("response", "oauth"),
    "nested in an array": lambda body: under("tokens")(b"[" + body + b"]"),
    "lambda": lambda body: json.dumps({"statusCode": 200, "body": body.decode()}).encode(),
    "echo beside": lambda body: json.dumps(
        {"request": SENT | {"client_id": "id"}, "response": json.loads(body)}
    ).encode(),
    "masked echo beside": lambda body: json.dumps(
        {"request": SENT | {"refresh_token": "RT1-...ted"}, "response": json.loads(body)}
    ).encode(),
    "echo above": lambda body: json.dumps(
        {"refresh_token": SENT["refresh_token"], "new": json.loads(body)}
    ).encode(),
    "said twice": lambda body: body + b"\n" + body,
}


def outcome_of(
    body: bytes | dict[str, Any], status: int = 200, *, broken: str | None = None, **client: Any
) -> Outcome:
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    return classify(
        status,
        CIMultiDict[str](),
        content,
        make_client(**client),
        1.8e9,
        broken=broken,
        sent=SENT,
    )


def tokens_in(outcome: Outcome) -> tuple[str | None, str | None]:
    if not isinstance(outcome, Refreshed | RefreshTokenOnly):
        return None, None
    found = (outcome.answer.access_token, outcome.answer.refresh_token)
    access_token, refresh_token = (None if one is None else one.reveal() for one in found)
    return access_token, refresh_token


@pytest.mark.parametrize("envelope", ENVELOPES.values(), ids=ENVELOPES)
def test_no_envelope_hides_tokens(envelope: Wrap) -> None:
    outcome = outcome_of(envelope(json.dumps(TOKENS).encode()))

    assert tokens_in(outcome) == ("AT2", "RT2")
    assert isinstance(outcome, Refreshed)
    assert outcome.answer.expires_in == 60


@pytest.mark.parametrize("name", [name for name in ENVELOPES if name not in {"utf-16", "utf-32"}])
def test_what_was_searched_for_says_so(name: str) -> None:
    outcome = outcome_of(ENVELOPES[name](json.dumps(TOKENS).encode()))

    assert isinstance(outcome, Refreshed)
    if name == "bom and crlf":
        assert not outcome.answer.is_searched
        return
    assert outcome.answer.is_searched
    assert any("searched for" in warning for warning in outcome.answer.warnings)


def test_the_standard_place_decides_alone() -> None:
    outcome = outcome_of({"access_token": "AT2", "other": {"refresh_token": "RT9"}})

    assert tokens_in(outcome) == ("AT2", None)
    assert isinstance(outcome, Refreshed)
    assert not outcome.answer.is_searched


@pytest.mark.parametrize(
    "body",
    [
        {"a": {"b": {"c": TOKENS}}},
        {"first": TOKENS, "second": TOKENS | {"refresh_token": "RT3"}},
        {"list": [TOKENS, TOKENS | {"access_token": "AT3"}]},
        {"access": {"access_token": "AT2"}, "refresh": {"refresh_token": "RT2"}},
        {"id_token": TOKENS},
        {"id_token": json.dumps(TOKENS)},
        {"result": {"accessToken": "AT2", "refreshToken": "RT2"}},
        {"result": {"token": "AT2"}},
        {"result": {"access_token": "null", "refresh_token": "undefined"}},
        {"result": {"access_token": ["AT2"], "refresh_token": {"value": "RT2"}}},
        {"request": SENT},
        {"request": {"refresh_token": "RT1-presented"}},
        {"request": {"refresh_token": " RT1-presented\n"}},
        {"request": {"refresh_token": "RT1%2Dpresented"}},
        {"request": {"grant_type": "refresh_token", "refresh_token": "RT1-***"}},
        {"refresh_token": "RT1-presented"},
        json.dumps(TOKENS).encode() + json.dumps(TOKENS | {"access_token": "AT3"}).encode(),
        b'{"refresh_token": "RT3", "data": {"access_token": "AT2"}, , "refresh_token": "RT4"}',
        b"<script>var s = {access_token: 'AT2'}; t = " + json.dumps(TOKENS).encode(),
        b"refresh_token=RT7&x=<b>" + json.dumps(TOKENS).encode(),
        b"<a href='?access_token=AT7'>" + json.dumps({"access_token": "AT2"}).encode(),
        gzip.compress(json.dumps(TOKENS).encode(), mtime=0)[:-3],
        gzip.compress(json.dumps(TOKENS).encode(), mtime=0)[:-8] + b"\0" * 8,
        b'{"refresh_token"' + b'{"refresh_token": "RT2"' * 5,
    ],
    ids=str,
)
def test_what_nobody_can_choose_is_kept(body: bytes | dict[str, Any]) -> None:
    outcome = outcome_of(body)

    assert isinstance(outcome, OutcomeUnknown)
    assert outcome.body is not None
    assert outcome.may_hold_tokens


@pytest.mark.parametrize("status", [200, 400, 401, 403])
def test_an_echo_beside_an_error_proves_nothing(status: int) -> None:
    error = {"error": "invalid_grant", "refresh_token": "RT1-presented"}

    assert isinstance(outcome_of(error, status), GrantRejected)
    assert isinstance(
        outcome_of({"error": "invalid_grant", "request": {"refresh_token": "RT1-masked"}}, status),
        GrantRejected,
    )


def test_an_echo_in_a_failure_is_no_token() -> None:
    assert isinstance(outcome_of({"refresh_token": "RT1-presented"}, 400), Transient)
    assert outcome_of({"refresh_token": "RT1-presented"}, 502) == OutcomeUnknown(
        reason="http_502", status=502
    )


def test_a_repeated_refresh_token_does_not_rotate() -> None:
    outcome = outcome_of(TOKENS | {"refresh_token": "RT1-presented"})

    assert tokens_in(outcome) == ("AT2", None)
    assert isinstance(outcome, Refreshed)
    assert outcome.answer.warnings == ()


@pytest.mark.parametrize("status", [201, 400, 404, 500])
def test_only_a_success_is_searched(status: int) -> None:
    outcome = outcome_of(json.dumps([TOKENS]).encode(), status)

    assert tokens_in(outcome) == (("AT2", "RT2") if status == 201 else (None, None))


def test_an_error_without_its_coding_is_read() -> None:
    body = gzip.compress(json.dumps({"error": "invalid_grant"}).encode())

    for status in (200, 400):
        assert isinstance(outcome_of(body, status), GrantRejected)


@pytest.mark.parametrize(
    ("body", "may"),
    [
        (b"", False),
        (b" \r\n", False),
        (b"null", False),
        (b"{}", False),
        (b"OK", False),
        (b'{"result": "0000", "message": "OK"}', False),
        (b'{"a": 1}', False),
        (b"<html><title>Maintenance</title>Back soon</html>", False),
        (("<html>Wartung, bitte sp\xe4ter " * 9).encode("latin-1"), False),
        ("Wartung, bitte etwas sp\xe4ter".encode("latin-1"), False),
        (("<html>" + "\u30e1\u30f3\u30c6" * 99).encode("shift-jis"), False),
        (b"<html>Token service</html>", True),
        (b'{"TOKEN_TYPE": "Bearer"}', True),
        (json.dumps({"tokens": 1}).encode("utf-16"), True),
        (gzip.compress(b'{"my_token": 1}', mtime=0), True),
        (gzip.compress(b"OK", mtime=0), False),
        (gzip.compress(b"x" * (LARGEST_CONTENT + 1), mtime=0), True),
        (b"<oauth><access_token>AT</access_token></oauth>", True),
        (json.dumps(TOKENS).encode("cp037"), True),
        (b"\x1b\x03\x80\x00", True),
        (bytes(range(128, 256)), True),
        (base64.b64encode(json.dumps(TOKENS).encode()), True),
    ],
    ids=lambda value: ascii(value)[:40],
)  # fmt: skip
def test_a_success_nobody_reads_may_hold_tokens(body: bytes, may: bool) -> None:  # noqa: FBT001
    outcome = outcome_of(body)

    assert isinstance(outcome, OutcomeUnknown)
    assert outcome.may_hold_tokens is may
    broken = outcome_of(body, broken="truncated")
    assert isinstance(broken, OutcomeUnknown)
    assert not broken.may_hold_tokens


@pytest.mark.parametrize(
    "bomb",
    [
        b"\0" * 9_000_000,
        json.dumps(TOKENS).encode() + b" " * 9_000_000,
        gzip.compress(b"{" * 9_000_000, mtime=0),
    ],
    ids=["nul", "tokens first", "twice"],
)
def test_a_bomb_is_no_work(bomb: bytes) -> None:
    for wrapped in (gzip.compress(bomb), zlib.compress(bomb), raw_deflate(bomb)):
        content = decompressed(wrapped, is_whole=True)
        assert content is None or len(content.body) <= LARGEST_CONTENT
        started = time.thread_time()
        outcome_of(wrapped)
        assert time.thread_time() - started < 2


@pytest.mark.parametrize(
    "body",
    [
        b"{" * 262144,
        b'{"' * 131072,
        b'{"a":' * 52000,
        b"[" + b"{}," * 87000 + b"{}]",
        b"x[" + b'{"access_token":"a"},' * 12000,
        json.dumps({f"p{n}": {"q": {"access_token": n}} for n in range(7000)}).encode(),
        b"&quot;{" * 37000,
        b"[" * 900 + b"]" * 900,
        json.dumps(["{" * 100] * 2000).encode(),
    ],
    ids=["braces", "openings", "deep", "objects", "holders", "wide", "escaped", "lists", "texts"],
)
def test_no_search_takes_long(body: bytes) -> None:
    started = time.thread_time()

    assert isinstance(outcome_of(body), OutcomeUnknown)
    assert time.thread_time() - started < 2


@quick
@given(st.lists(st.sampled_from(sorted(ENVELOPES)), max_size=3), TOKEN_TEXTS, TOKEN_TEXTS)
def test_whatever_the_envelopes_tokens_are_adopted_or_kept(
    names: list[str], access_token: str, refresh_token: str
) -> None:
    pair = {"access_token": access_token, "refresh_token": refresh_token}
    body = json.dumps(pair).encode()
    for name in names:
        if b"\0" in body:
            return  # an envelope of text in UTF-16 would be no text
        try:
            body = ENVELOPES[name](body)
        except ValueError:
            return  # this one takes JSON in UTF-8 only

    outcome = outcome_of(body)

    if isinstance(outcome, OutcomeUnknown):
        assert outcome.body == body
        assert outcome.may_hold_tokens
    else:
        assert tokens_in(outcome) == (access_token, refresh_token)


@quick
@given(
    st.sampled_from(sorted(ENVELOPES)),
    st.sampled_from(["refresh_token", "id_token", "token", "refreshToken", "REFRESH_TOKEN"]),
    st.sampled_from([200, 201, 400, 401, 500]),
    st.sampled_from([None, "truncated", "too_large"]),
    st.booleans(),
)
def test_no_search_adopts_what_is_no_new_token(
    envelope: str,
    name: str,
    status: int,
    broken: str | None,
    has_error: bool,  # noqa: FBT001
) -> None:
    fields = {name: SENT["refresh_token"], "id_token": "header.RT5.signature"}
    if has_error:
        fields["error"] = "invalid_request"
    body = ENVELOPES[envelope](json.dumps(fields).encode())

    outcome = outcome_of(body, status, broken=broken)

    assert tokens_in(outcome) == (None, None)
    assert SENT["refresh_token"] not in repr(outcome)


@quick
@given(st.sampled_from(sorted(ENVELOPES)), TOKEN_TEXTS, st.data())
def test_no_cut_envelope_yields_half_a_token(
    envelope: str, token: str, data: st.DataObject
) -> None:
    whole = ENVELOPES[envelope](
        json.dumps({"access_token": "AT2", "refresh_token": token}).encode()
    )
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]

    for broken in ("truncated", None):
        access_token, refresh_token = tokens_in(outcome_of(cut, broken=broken))
        assert access_token in {None, "AT2"}
        assert refresh_token in {None, token}


@quick
@given(st.binary(max_size=300), st.sampled_from([200, 400, 404, 500]))
def test_no_bytes_around_tokens_make_it_raise(noise: bytes, status: int) -> None:
    body = json.dumps(TOKENS).encode()
    for wrapped in (noise + body, body + noise, gzip.compress(noise + body), zlib.compress(noise)):
        assert isinstance(outcome_of(wrapped, status), OUTCOMES)


def test_no_answer_is_shown() -> None:
    for envelope in ENVELOPES.values():
        outcome = outcome_of(envelope(json.dumps({"access_token": "canary"}).encode()))
        assert "canary" not in repr(outcome)
        assert tokens_in(outcome)[0] == Secret("canary").reveal()
