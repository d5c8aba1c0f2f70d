"""The table "What an answer means" of the README beside the code, row by row, against the code."""

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from refresher import oauth
from refresher.domain.outcomes import (
    ClientRejected,
    GrantRejected,
    Misconfigured,
    NotSent,
    Outcome,
    OutcomeUnknown,
    ProofDemanded,
    Refreshed,
    RefreshTokenOnly,
    RequestRejected,
    TooEarly,
    Transient,
)
from refresher.oauth.responses import classify
from tests.oauth import test_not_sent, test_outcome_unknown, test_proxies, test_unread
from tests.oauth.world import TOKENS, make_client

PAGE = Path(oauth.__file__).parent / "README.md"
TOKEN = {"access_token": "AT2"}
SENT = {"grant_type": "refresh_token", "refresh_token": "RT1"}
BYTES = json.dumps(TOKENS).encode()
HTML = b"<!doctype html><title>Sorry</title>error=invalid_grant&access_token=AT"
GIANT = b"x" * 65536
AS_CODED = "as the code says"


def said(code: str) -> dict[str, str]:
    return {"error": code, "error_description": "in words"}


@dataclass(frozen=True)
class Sample:
    """One answer, and the class its outcome must have."""

    expected: type[Any]
    status: int
    body: bytes | dict[str, Any] = b""
    broken: str | None = None

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Row:
    """A row of the table, with answers that stand for it.

    Args:
        transport: tests that produce it with a real server, where no answer is parsed.
    """

    came: str
    outcome: str
    samples: tuple[Sample, ...]
    transport: tuple[Callable[..., Any], ...] = ()


ROWS = (
    Row(
        "no name, connection or TLS; a proxy's refusal (407)",
        "NotSent",
        (Sample(NotSent, 407), Sample(NotSent, 407, HTML), Sample(NotSent, 407, TOKENS)),
        (
            test_not_sent.test_an_unknown_host_sends_nothing,
            test_not_sent.test_a_refused_connection_sends_nothing,
            test_not_sent.test_a_connection_never_accepted_sends_nothing,
            test_not_sent.test_a_hanging_handshake_sends_nothing,
            test_not_sent.test_a_doubtful_certificate_sends_nothing,
            test_proxies.test_a_refusing_proxy_sends_nothing,
        ),
    ),
    Row(
        "sent, then disconnected, timed out, or no HTTP",
        "OutcomeUnknown",
        (),
        (
            test_outcome_unknown.test_a_closed_connection_leaves_it_unknown,
            test_outcome_unknown.test_a_reset_connection_leaves_it_unknown,
            test_outcome_unknown.test_a_slow_server_leaves_it_unknown,
            test_outcome_unknown.test_a_malformed_answer_leaves_it_unknown,
        ),
    ),
    Row(
        "2xx with a usable access token",
        "Refreshed",
        (
            Sample(Refreshed, 200, TOKENS),
            Sample(Refreshed, 201, TOKEN),
            Sample(Refreshed, 299, TOKENS | said("invalid_grant")),
            Sample(Refreshed, 200, b"access_token=AT2&refresh_token=RT2"),
            Sample(Refreshed, 200, json.dumps(TOKENS).encode("utf-16")),
            Sample(Refreshed, 200, TOKENS, broken="truncated"),
        ),
        (test_outcome_unknown.test_compressed_tokens_are_read,),
    ),
    Row(
        "2xx with tokens in another place or wrapping",
        "Refreshed",
        (
            Sample(Refreshed, 200, gzip.compress(BYTES, mtime=0)),
            Sample(Refreshed, 200, b"<br />\n<b>Notice</b>: x in <b>a.php</b><br />\n" + BYTES),
            Sample(Refreshed, 200, b"[" + BYTES + b"]"),
            Sample(Refreshed, 200, json.dumps(BYTES.decode()).encode()),
            Sample(Refreshed, 200, {"result": {"tokens": TOKENS}, "refresh_token": "RT1"}),
        ),
    ),
    Row(
        "2xx with a refresh token only",
        "RefreshTokenOnly",
        (
            Sample(RefreshTokenOnly, 200, {"refresh_token": "RT2"}),
            Sample(RefreshTokenOnly, 200, {"refresh_token": "RT2", "access_token": "a\nb"}),
            Sample(RefreshTokenOnly, 200, {"refresh_token": "RT2"} | said("invalid_grant")),
            Sample(RefreshTokenOnly, 200, {"refresh_token": "RT2", "access_token": "a" * 65537}),
        ),
    ),
    Row(
        "2xx that breaks off behind its refresh token",
        "RefreshTokenOnly",
        (
            Sample(RefreshTokenOnly, 200, BYTES[:-1], broken="truncated"),
            Sample(RefreshTokenOnly, 200, BYTES[:-7], broken="timeout"),
            Sample(RefreshTokenOnly, 200, BYTES[:-1]),
            Sample(RefreshTokenOnly, 200, BYTES[:-1] + b', "x": "' + GIANT, broken="too_large"),
        ),
    ),
    Row(
        "2xx with an error code",
        AS_CODED,
        (
            Sample(GrantRejected, 200, said("bad_refresh_token")),
            Sample(ClientRejected, 200, {"ok": False, "error": "bad_client_secret"}),
            Sample(Misconfigured, 200, said("redirect_uri_mismatch")),
            Sample(RequestRejected, 200, said("no such word")),
            Sample(RequestRejected, 200, {"success": False}),
            Sample(Transient, 200, {"error": "Access Denied", "status": "failure"}),
            Sample(OutcomeUnknown, 200, {"ok": False, "error": "fatal_error"}),
            Sample(GrantRejected, 200, {"refresh_token": "RT1"} | said("invalid_grant")),
            Sample(GrantRejected, 200, {"status": 503, "error": "x: invalid refresh_token"}),
            Sample(Transient, 200, {"error": "x", "error_description": "please retry"}),
        ),
    ),
    Row(
        "2xx unreadable, cut off or without tokens",
        "OutcomeUnknown",
        (
            Sample(OutcomeUnknown, 200),
            Sample(OutcomeUnknown, 204),
            Sample(OutcomeUnknown, 200, HTML),
            Sample(OutcomeUnknown, 200, GIANT, broken="too_large"),
            Sample(OutcomeUnknown, 200, gzip.compress(BYTES, mtime=0)[:-9]),
            Sample(OutcomeUnknown, 200, BYTES[: BYTES.index(b"RT2") + 3], broken="truncated"),
            Sample(OutcomeUnknown, 200, {"refresh_token": "RT1"}),
            Sample(OutcomeUnknown, 200, BYTES + b"\n" + BYTES.replace(b"RT2", b"RT3")),
            Sample(OutcomeUnknown, 200, b"access_token=AT2&refresh_token=R", broken="timeout"),
            Sample(OutcomeUnknown, 200, b"[" * 2000),
            Sample(OutcomeUnknown, 200, json.dumps(TOKENS).encode("cp037")),
            Sample(OutcomeUnknown, 200, {"expires_in": 3600}),
        ),
        (
            test_outcome_unknown.test_a_cut_body_is_kept,
            test_outcome_unknown.test_a_slow_body_is_kept,
            test_outcome_unknown.test_a_giant_body_is_cut_at_the_cap,
            test_outcome_unknown.test_cut_compression_yields_no_token,
            test_outcome_unknown.test_unknown_compression_is_kept_as_it_came,
        ),
    ),
    Row(
        "2xx that a bug of ours could not read",
        "AnswerUnread",
        (),
        (test_unread.test_an_answer_outlives_a_bug_in_its_reader,),
    ),
    Row(
        "any other but 3xx, with tokens and no error",
        "OutcomeUnknown",
        tuple(Sample(OutcomeUnknown, status, TOKENS) for status in (400, 401, 404, 429, 500, 503)),
    ),
    Row(
        "3xx",
        "Misconfigured",
        tuple(
            Sample(Misconfigured, status, body)
            for status in (300, 301, 302, 303, 304, 307, 308, 399)
            for body in (b"", HTML, TOKENS, said("temporarily_unavailable"))
        ),
    ),
    Row(
        "2xx or 4xx that says that it is too early",
        "TooEarly",
        tuple(
            Sample(TooEarly, status, {"error": code, "error_description": "token not expired"})
            for status in (200, 400, 401, 403, 409, 429)
            for code in ("invalid_grant", "access_denied", "whatever")
        ),
    ),
    Row(
        "408, 409, 423, 425, 429",
        "Transient",
        tuple(
            Sample(Transient, status, body)
            for status in (408, 409, 423, 425, 429)
            for body in (b"", HTML, GIANT, said("invalid_grant"), said("server_error"))
        ),
    ),
    Row(
        "4xx with a known error code",
        AS_CODED,
        (
            Sample(GrantRejected, 400, said("invalid_grant")),
            Sample(GrantRejected, 403, said("invalid_grant")),
            Sample(GrantRejected, 400, TOKENS | said("invalid_grant")),
            Sample(GrantRejected, 400, b"error=invalid_grant"),
            Sample(ClientRejected, 401, said("invalid_client")),
            Sample(Misconfigured, 404, said("invalid_scope")),
            Sample(ProofDemanded, 400, said("use_dpop_nonce")),
            Sample(RequestRejected, 400, said("invalid_request")),
            Sample(Transient, 403, said("slow_down")),
            Sample(OutcomeUnknown, 400, said("server_error")),
            Sample(Transient, 400, {"error": "invalid_grant", "message": "is being processed"}),
        ),
    ),
    Row(
        "2xx or 4xx that says that a DPoP proof is missing",
        "ProofDemanded",
        tuple(
            Sample(ProofDemanded, status, {"error": code, "error_description": "no DPoP proof"})
            for status in (200, 400, 401, 403)
            for code in ("invalid_grant", "invalid_request", "invalid_dpop_proof", "whatever")
        ),
    ),
    Row(
        "400 or 401 with an unknown error code",
        "RequestRejected",
        (
            Sample(RequestRejected, 400, said("strange")),
            Sample(RequestRejected, 401, said("Unauthorized")),
            Sample(RequestRejected, 400, {"errors": [{"code": "invalid", "field": "code"}]}),
        ),
    ),
    Row(
        "any other 4xx: 404, a page, no body",
        "Transient",
        (
            Sample(Transient, 400),
            Sample(Transient, 401, HTML),
            Sample(Transient, 403, HTML),
            Sample(Transient, 403, {"message": "Forbidden"}),
            Sample(Transient, 404, said("Not Found")),
            Sample(Transient, 413, GIANT, broken="too_large"),
            Sample(Transient, 400, json.dumps(said("invalid_grant")).encode("cp037")),
        ),
        (test_outcome_unknown.test_a_cut_refusal_keeps_its_status,),
    ),
    Row(
        "5xx, or a status of no class",
        "OutcomeUnknown",
        (
            *(Sample(OutcomeUnknown, status, HTML) for status in (500, 502, 503, 504, 599)),
            Sample(OutcomeUnknown, 500),
            Sample(OutcomeUnknown, 500, said("invalid_grant")),
            Sample(OutcomeUnknown, 503, said("server_error")),
            Sample(OutcomeUnknown, 500, TOKENS | said("invalid_grant")),
            Sample(Transient, 503, said("temporarily_unavailable")),
            Sample(OutcomeUnknown, 503, {"message": "try again", "error": "token not expired"}),
            Sample(OutcomeUnknown, 199),
            Sample(OutcomeUnknown, 600, TOKEN | said("invalid_client")),
        ),
    ),
)


def outcome_of(sample: Sample) -> Outcome:
    return classify(
        sample.status,
        CIMultiDict[str](),
        sample.content,
        make_client(),
        1.8e9,
        broken=sample.broken,
        sent=SENT,
    )


SAMPLES = [
    pytest.param(sample, id=f"{row.came}: {sample.status} #{number}")
    for row in ROWS
    for number, sample in enumerate(row.samples)
]


@pytest.mark.parametrize("sample", SAMPLES)
def test_each_row_is_what_the_code_does(sample: Sample) -> None:
    assert type(outcome_of(sample)) is sample.expected


@pytest.mark.parametrize("row", ROWS, ids=[row.came for row in ROWS])
def test_each_row_names_its_outcome(row: Row) -> None:
    assert row.samples or row.transport
    if row.outcome != AS_CODED and row.samples:
        assert row.samples[0].expected.__name__ == row.outcome
    else:
        assert row.transport or len({sample.expected for sample in row.samples}) > 3


def test_the_page_has_exactly_these_rows() -> None:
    _, _, section = PAGE.read_text().partition("\n## What an answer means\n")
    table = section.partition("\n\nGrantRejected")[0]
    told = re.findall(r"^\| (?!What came|---)([^|]+) \| ([^|]+) \|", table, flags=re.MULTILINE)
    assert told == [(row.came, row.outcome) for row in ROWS]


def test_every_status_has_one_row() -> None:
    for status in range(1000):
        for body in (b"", HTML, TOKENS, said("invalid_grant"), said("strange")):
            sample = Sample(object, status, body)
            outcome = outcome_of(sample)
            if isinstance(outcome, GrantRejected):
                assert 200 <= status < 500, "only an error in words ends a grant"
                assert body == said("invalid_grant")
            if isinstance(outcome, Refreshed):
                assert 200 <= status < 300
