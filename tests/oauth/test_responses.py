import json
from email.utils import formatdate
from typing import Any

import pytest
from multidict import CIMultiDict

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
    Transient,
)
from refresher.domain.secret import Secret
from refresher.oauth.error_codes import MEANINGS, Meaning
from refresher.oauth.responses import classify
from tests.oauth.world import TOKENS, make_client

NOW = 1_800_000_000.0
HTML = b"<!doctype html><html><body>503 <a href='/x?error=invalid_grant&y=1'>again</a></html>"


def outcome_of(
    status: int,
    body: bytes | dict[str, Any],
    *,
    headers: dict[str, str] | None = None,
    broken: str | None = None,
    **client: Any,
) -> Outcome:
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    fields = CIMultiDict(headers or {})
    return classify(status, fields, content, make_client(**client), NOW, broken=broken)


def error(code: str, **more: Any) -> dict[str, Any]:
    return {"error": code, "error_description": "in words", **more}


def told(code: str, description: str) -> dict[str, Any]:
    return {"error": code, "error_description": description}


def gateway(reason: str, status: int) -> Transient:
    return Transient(reason=reason, status=status, is_own_word=False)


ROWS: list[tuple[str, int, bytes | dict[str, Any], Outcome]] = [
    # 4xx: errors in words
    ("invalid_grant", 400, error("invalid_grant"),
     GrantRejected(error="invalid_grant", status=400)),
    ("auth0", 403, error("invalid_grant"), GrantRejected(error="invalid_grant", status=403)),
    ("by 401", 401, error("invalid_grant"), GrantRejected(error="invalid_grant", status=401)),
    ("as a form", 400, b"error=invalid_grant&error_description=x",
     GrantRejected(error="invalid_grant", status=400)),
    ("supabase", 400, {"code": 400, "error_code": "refresh_token_not_found", "msg": "x"},
     GrantRejected(error="refresh_token_not_found", status=400, is_explained=True)),
    ("hubspot", 400, {"status": "BAD_REFRESH_TOKEN", "message": "x"},
     GrantRejected(error="bad_refresh_token", status=400)),
    ("twitch", 400, {"status": 400, "message": "Invalid refresh token"},
     GrantRejected(error="invalid_refresh_token", status=400, is_explained=True)),
    ("hydra", 401, error("token_inactive"), GrantRejected(error="token_inactive", status=401)),
    ("workos", 400, {"error": "x", "error_description": "Refresh token already exchanged."},
     GrantRejected(error="invalid_refresh_token", status=400, is_explained=True)),
    ("fitbit", 401, {"errors": [{"errorType": "invalid_grant"}], "success": False},
     GrantRejected(error="invalid_grant", status=401)),
    ("entra", 400, error("interaction_required"),
     GrantRejected(error="interaction_required", status=400, needs_person=True)),
    ("invalid_client", 401, error("invalid_client"),
     ClientRejected(error="invalid_client", status=401)),
    ("unauthorized_client", 400, error("unauthorized_client"),
     ClientRejected(error="unauthorized_client", status=400)),
    ("unsupported_grant_type", 400, error("unsupported_grant_type"),
     ClientRejected(error="unsupported_grant_type", status=400)),
    ("atlassian", 403, error("access_denied"), ClientRejected(error="access_denied", status=403)),
    ("invalid_scope", 400, error("invalid_scope"),
     Misconfigured(error="invalid_scope", status=400)),
    ("invalid_target", 400, error("invalid_target"),
     Misconfigured(error="invalid_target", status=400)),
    ("hydra", 400, error("invalid_request", error_hint="Please retry the request"),
     Transient(reason="retry_later", status=400)),
    ("unknown code", 400, error("strange"),
     RequestRejected(error="unrecognized_error", status=400)),
    ("meta", 400, {"error": {"type": "OAuthException", "code": 190}},
     RequestRejected(error="unrecognized_error", status=400)),
    ("slow_down", 400, error("slow_down"), Transient(reason="slow_down", status=400)),
    ("server_error", 400, error("server_error"),
     OutcomeUnknown(reason="server_error", status=400)),
    ("temporarily", 400, error("temporarily_unavailable"),
     Transient(reason="temporarily_unavailable", status=400)),
    ("in other words", 400, error("Too Many Requests"),
     Transient(reason="too_many_requests", status=400)),
    # 4xx: nothing an authorization server said
    ("html 403", 403, HTML, gateway("html_page", 403)),
    ("link in html", 403, b'<a/href="?x&error=invalid_grant&y">',
     gateway("http_403", 403)),
    ("empty 401", 401, b"", gateway("http_401", 401)),
    ("empty 400", 400, b"", gateway("http_400", 400)),
    ("gateway 404", 404, error("Not Found"), gateway("http_404", 404)),
    ("page 404", 404, HTML, gateway("http_404", 404)),
    ("page 405", 405, HTML, gateway("http_405", 405)),
    ("error list", 400, b"[1]", gateway("http_400", 400)),
    ("error true", 400, {"error": True}, gateway("http_400", 400)),
    ("nginx", 400, b"<html><center>The plain HTTP request was sent to HTTPS port</center>",
     gateway("plain_to_tls_port", 400)),
    ("apache", 400, b"<p>Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
     gateway("plain_to_tls_port", 400)),
    ("go", 400, b"Client sent an HTTP request to an HTTPS server.\n",
     gateway("plain_to_tls_port", 400)),
    ("gateway's patience", 408, error("invalid_grant"), gateway("http_408", 408)),
    *((f"later {status}", status, error("invalid_grant"),
       Transient(reason=f"http_{status}", status=status)) for status in (409, 423, 425, 429)),
    ("echoed tokens", 400, error("invalid_grant", refresh_token="RT1"),
     GrantRejected(error="invalid_grant", status=400)),
    ("tokens in 400", 400, {"access_token": "A"},
     OutcomeUnknown(reason="tokens_in_failure", status=400, body=b'{"access_token": "A"}')),
    ("proxy says 407", 407, HTML, NotSent(reason="proxy")),
    # 5xx
    ("bad gateway", 502, HTML, OutcomeUnknown(reason="http_502", status=502)),
    ("500 in words", 500, error("server_error"), OutcomeUnknown(reason="http_500", status=500)),
    ("500 rejection", 500, error("invalid_grant"), OutcomeUnknown(reason="http_500", status=500)),
    ("503 phrase", 503, error("Service Unavailable"),
     OutcomeUnknown(reason="http_503", status=503)),
    ("503 in words", 503, error("temporarily_unavailable"),
     Transient(reason="temporarily_unavailable", status=503)),
    ("no such class", 799, b"", OutcomeUnknown(reason="http_799", status=799)),
    # 3xx
    *((f"redirect {status}", status, b"", Misconfigured(error="redirected", status=status))
      for status in (301, 302, 303, 304, 307, 308)),
    # 2xx without tokens
    ("github", 200, error("bad_refresh_token"),
     GrantRejected(error="bad_refresh_token", status=200, is_explained=True)),
    ("slack", 200, {"ok": False, "error": "invalid_refresh_token"},
     GrantRejected(error="invalid_refresh_token", status=200, is_explained=True)),
    ("slack secret", 200, {"ok": False, "error": "bad_client_secret"},
     ClientRejected(error="bad_client_secret", status=200)),
    ("slack throttle", 200, {"ok": False, "error": "ratelimited"},
     Transient(reason="ratelimited", status=200)),
    ("ok false", 200, {"ok": False}, RequestRejected(error="unrecognized_error", status=200)),
    ("zoho", 200, error("invalid_code"), GrantRejected(error="invalid_code", status=200)),
    ("zoho throttle", 200, {"error": "Access Denied", "status": "failure"},
     Transient(reason="access_denied", status=200)),
    ("html 200", 200, HTML, OutcomeUnknown(reason="html_page", status=200, body=HTML)),
    ("empty 200", 200, b"", OutcomeUnknown(reason="unreadable", status=200, body=b"")),
    ("204", 204, b"", OutcomeUnknown(reason="unreadable", status=204, body=b"")),
    ("no tokens", 200, {"a": 1}, OutcomeUnknown(reason="no_tokens", status=200, body=b'{"a": 1}')),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_each_answer_has_one_outcome(
    status: int, body: bytes | dict[str, Any], expected: Outcome
) -> None:
    assert outcome_of(status, body) == expected


PROOF_WANTED = [
    ("oidc-provider", {}, told("invalid_grant", "DPoP proof JWT not provided")),
    ("rfc 9449 8", {"DPoP-Nonce": "n"}, told("use_dpop_nonce", "nonce needed")),
    ("a nonce beside a grant", {"DPoP-Nonce": "n"}, told("invalid_grant", "it is bad")),
    ("a challenge", {"WWW-Authenticate": 'DPoP algs="ES256"'}, told("invalid_token", "no")),
    ("a challenge alone", {"WWW-Authenticate": 'Basic, DPoP algs="ES256"'}, b""),
    ("a request", {}, told("invalid_request", "the dpop header is missing")),
    ("in other words", {}, told("invalid_grant", "proof-of-possession is required")),
]


@pytest.mark.parametrize(
    ("headers", "body"), [row[1:] for row in PROOF_WANTED], ids=[row[0] for row in PROOF_WANTED]
)
def test_a_missing_proof_ends_no_grant(headers: dict[str, str], body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    outcome = classify(401, CIMultiDict(headers), content, make_client(), NOW)
    assert type(outcome) is ProofDemanded


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({}, told("invalid_grant", "it was revoked"), GrantRejected),
        ({"DPoP-Nonce": "n"}, told("interaction_required", "log in"), GrantRejected),
        ({"DPoP-Nonce": "n"}, told("invalid_client", "who?"), ClientRejected),
        ({"WWW-Authenticate": "Basic, DPoP"}, told("invalid_client", "who?"), ClientRejected),
        ({"DPoP-Nonce": "n"}, TOKENS, Refreshed),
    ],
)
def test_what_has_nothing_to_do_with_a_proof_stays_what_it_is(
    headers: dict[str, str], body: dict[str, Any], expected: type[Any]
) -> None:
    status = 200 if expected is Refreshed else 400
    content = json.dumps(body).encode()
    outcome = classify(status, CIMultiDict(headers), content, make_client(), NOW)
    assert type(outcome) is expected


@pytest.mark.parametrize("code", sorted(MEANINGS))
def test_each_known_code_keeps_its_meaning(code: str) -> None:
    by_meaning: dict[Meaning, type[Any]] = {
        Meaning.GRANT: GrantRejected,
        Meaning.CLIENT: ClientRejected,
        Meaning.CONFIGURATION: Misconfigured,
        Meaning.PROOF: ProofDemanded,
        Meaning.REQUEST: RequestRejected,
        Meaning.LATER: Transient,
        Meaning.FAILED: OutcomeUnknown,
    }
    assert type(outcome_of(400, error(code))) is by_meaning[MEANINGS[code]]
    assert type(outcome_of(400, error(code.upper()))) is by_meaning[MEANINGS[code]]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(TOKENS).encode(),
        b"\xef\xbb\xbf \r\n" + json.dumps(TOKENS).encode() + b"\n",
        json.dumps(TOKENS).encode("utf-16"),
        b"access_token=AT2&refresh_token=RT2&expires_in=3600&scope=\n",
        json.dumps(TOKENS)[:-1].encode() + b', "note": "caf\xe9"}',
        json.dumps({"status": 0, "body": TOKENS}).encode(),
        json.dumps({"code": 0, "message": "OK", "data": TOKENS}).encode(),
    ],
    ids=["json", "bom", "utf-16", "form", "latin-1", "withings", "tiktok"],
)
def test_tokens_are_read_from_any_dress(body: bytes) -> None:
    outcome = outcome_of(200, body)

    assert isinstance(outcome, Refreshed)
    assert outcome.answer.access_token is not None
    assert outcome.answer.access_token.reveal() == "AT2"
    assert outcome.answer.refresh_token is not None
    assert outcome.answer.refresh_token.reveal() == "RT2"
    assert outcome.answer.expires_in == 3600


@pytest.mark.parametrize(
    "garbage",
    [
        {},
        {"access_token": ""},
        {"access_token": None},
        {"access_token": 17},
        {"access_token": "a\nb"},
        {"access_token": "a" * 65537},
        {"error": "invalid_grant"},
        {"expires_in": "soon", "scope": 3, "token_type": []},
    ],
    ids=["alone", "empty", "null", "number", "newline", "giant", "error", "garbage"],
)
def test_a_refresh_token_survives_bad_company(garbage: dict[str, Any]) -> None:
    outcome = outcome_of(200, {**garbage, "refresh_token": "RT2"})

    assert isinstance(outcome, RefreshTokenOnly)
    assert outcome.answer.refresh_token is not None
    assert outcome.answer.refresh_token.reveal() == "RT2"


def test_an_enormous_number_costs_no_token() -> None:
    body = b'{"refresh_token": "RT2", "expires_in": ' + b"9" * 9999 + b"}"

    assert isinstance(outcome_of(200, body), RefreshTokenOnly)


def test_tokens_win_over_an_error() -> None:
    outcome = outcome_of(200, {**TOKENS, "ok": False, "error": "invalid_grant"})

    assert isinstance(outcome, Refreshed)
    assert outcome.answer.warnings == ("tokens came together with the error invalid_grant",)


@pytest.mark.parametrize("absent", [None, "", "  "], ids=["null", "empty", "blank"])
def test_an_empty_refresh_token_is_absent(absent: str | None) -> None:
    outcome = outcome_of(200, {**TOKENS, "refresh_token": absent})

    assert isinstance(outcome, Refreshed)
    assert outcome.answer.refresh_token is None
    assert outcome.answer.warnings == ()


def test_the_clients_own_lists_come_first() -> None:
    lists: dict[str, Any] = {
        "rejection_codes": ("unauthorized_client", "190"),
        "transient_codes": ("access_denied",),
    }

    assert outcome_of(400, error("unauthorized_client"), **lists) == GrantRejected(
        error="unauthorized_client", status=400
    )
    assert outcome_of(400, {"error": {"code": 190}}, **lists) == GrantRejected(
        error="190", status=400
    )
    assert outcome_of(403, error("access_denied"), **lists) == Transient(
        reason="access_denied", status=403
    )


def test_later_beats_rejection_in_the_lists() -> None:
    both: dict[str, Any] = {"rejection_codes": ("busy",), "transient_codes": ("busy",)}

    assert isinstance(outcome_of(400, error("busy"), **both), Transient)


def test_an_unknown_code_is_never_repeated() -> None:
    echoed = outcome_of(400, error("RT1-looks.like_a-code"))

    assert echoed == RequestRejected(error="unrecognized_error", status=400)


def test_a_truncated_form_is_never_adopted() -> None:
    form = b"access_token=AT2&refresh_token=RT"

    assert outcome_of(200, form, broken="truncated") == OutcomeUnknown(
        reason="truncated", status=200, body=form
    )


def test_a_closed_object_counts_though_truncated() -> None:
    assert isinstance(outcome_of(200, TOKENS, broken="truncated"), Refreshed)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("86400", 3600.0),
        ("9" * 300, 3600.0),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW + 90), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        (formatdate(NOW + 9e6, usegmt=True), 3600.0),
        ("-5", None),
        ("soon", None),
        ("nan", None),
        ("", None),
        ("١٢", None),
        ("9" * 5000, None),
    ],
)  # fmt: skip
def test_retry_after_is_read_and_capped(value: str, expected: float | None) -> None:
    outcome = outcome_of(429, b"", headers={"retry-after": value})

    assert outcome == Transient(reason="http_429", status=429, retry_after=expected)


@pytest.mark.parametrize("status", [200, 400, 502], ids=["unreadable", "transient", "unknown"])
def test_retry_after_counts_wherever_it_comes(status: int) -> None:
    outcome = outcome_of(status, HTML, headers={"Retry-After": "30"})

    assert isinstance(outcome, Transient | OutcomeUnknown)
    assert outcome.retry_after == 30


def test_a_kept_body_is_not_shown() -> None:
    assert "canary" not in repr(outcome_of(200, b"canary"))


REDIRECTS: list[tuple[str, str | None, str]] = [
    ("path", "/oauth2/v2/token", "redirected:/oauth2/v2/token"),
    ("absolute", "https://idp.example:8443/a/token?x=canary#canary", "redirected:/a/token"),
    ("other host", "//idp.example/token/", "redirected:/token/"),
    ("user", "https://canary:canary@idp.example/login", "redirected:/login"),
    ("root", "https://idp.example/", "redirected:/"),
    ("no path", "https://idp.example", "redirected"),
    ("query only", "?refresh_token=canary-RT1", "redirected"),
    ("none", None, "redirected"),
    ("empty", "", "redirected"),
    ("matrix", "/login;jsessionid=canary", "redirected:/login"),
    ("long", "/" + "a/" * 50, "redirected"),
    ("a hundred", "/" + "a/" * 49 + "b", "redirected:/" + "a/" * 49 + "b"),
    ("random", "/login/" + "c4n4ry" * 8, "redirected"),
    ("control", "/a\x00b", "redirected"),
    ("escaped control", "/a%0Ab", "redirected"),
    ("terminal", "/a%1B[31m", "redirected"),
    ("no ascii", "/\xe4", "redirected"),
    ("refresh token", "/x/canary-RT1/y", "redirected"),
    ("hidden in it", "/xcanary-RT1y", "redirected"),
    ("escaped", "/x/canary%2DRT1", "redirected"),
    ("client secret", "/canary-secret", "redirected"),
    ("short secret", "/token/s", "redirected:/token/s"),
    ("no url", "http://[", "redirected"),
]


@pytest.mark.parametrize(
    ("location", "error"), [row[1:] for row in REDIRECTS], ids=[row[0] for row in REDIRECTS]
)
def test_a_redirect_tells_where_to_but_nothing_secret(location: str | None, error: str) -> None:
    headers = CIMultiDict({} if location is None else {"location": location})
    sent = {"refresh_token": "canary-RT1", "code_verifier": "canary-verifier"}
    outcome = classify(307, headers, b"", make_client(), NOW, sent=sent)

    assert outcome == Misconfigured(error=error, status=307)
    assert "canary" not in repr(outcome)


def test_a_short_secret_is_no_part_of_a_path() -> None:
    headers = CIMultiDict({"Location": "/token/s"})
    client = make_client(client_secret=Secret("s"))

    assert classify(302, headers, b"", client, NOW) == Misconfigured(error="redirected", status=302)
    client = make_client(client_secret=Secret("e"))
    assert classify(302, headers, b"", client, NOW) == Misconfigured(
        error="redirected:/token/s", status=302
    )
