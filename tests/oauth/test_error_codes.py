"""What each word of the standards and the vendors means, the doubtful ones above all."""

import json
from typing import Any

import pytest
from multidict import CIMultiDict

from refresher.domain.outcomes import (
    ClientRejected,
    GrantRejected,
    Misconfigured,
    Outcome,
    OutcomeUnknown,
    ProofDemanded,
    RequestRejected,
    TooEarly,
    Transient,
)
from refresher.oauth.error_codes import MEANINGS
from refresher.oauth.responses import classify
from tests.oauth.world import make_client

STANDARDS: dict[str, dict[str, type[Any]]] = {
    "RFC 6749 5.2": {
        "invalid_request": RequestRejected,
        "invalid_client": ClientRejected,
        "invalid_grant": GrantRejected,
        "unauthorized_client": ClientRejected,
        "unsupported_grant_type": ClientRejected,
        "invalid_scope": Misconfigured,
    },
    "RFC 6749 4.1.2.1": {
        "access_denied": ClientRejected,
        "unsupported_response_type": Misconfigured,
        "server_error": OutcomeUnknown,
        "temporarily_unavailable": Transient,
    },
    "RFC 6750 3.1": {"invalid_token": RequestRejected, "insufficient_scope": Misconfigured},
    "RFC 7009": {"unsupported_token_type": Misconfigured},
    "RFC 8628 3.5": {
        "authorization_pending": Transient,
        "slow_down": Transient,
        "expired_token": RequestRejected,
    },
    "RFC 8693": {"invalid_target": Misconfigured},
    "RFC 9449": {"use_dpop_nonce": ProofDemanded, "invalid_dpop_proof": ProofDemanded},
}

VENDORS: list[tuple[str, int, dict[str, Any], type[Any]]] = [
    ("github", 200, {"error": "bad_refresh_token"}, GrantRejected),
    ("github secret", 200, {"error": "incorrect_client_credentials"}, ClientRejected),
    ("hubspot", 400, {"status": "BAD_REFRESH_TOKEN"}, GrantRejected),
    ("hubspot client", 400, {"status": "BAD_CLIENT_ID"}, ClientRejected),
    ("slack", 200, {"ok": False, "error": "token_revoked"}, GrantRejected),
    ("slack inactive", 200, {"ok": False, "error": "account_inactive"}, GrantRejected),
    ("slack throttle", 200, {"ok": False, "error": "ratelimited"}, Transient),
    ("slack failure", 200, {"ok": False, "error": "internal_error"}, OutcomeUnknown),
    ("slack migration", 200, {"ok": False, "error": "team_added_to_org"}, Transient),
    ("slack unknown", 200, {"ok": False, "error": "new_word"}, RequestRejected),
    ("zoho", 200, {"error": "invalid_code"}, GrantRejected),
    ("zoho throttle", 200, {"error": "Access Denied", "status": "failure"}, Transient),
    ("zoho secret", 200, {"error": "invalid_client_secret"}, ClientRejected),
    ("supabase", 400, {"error_code": "refresh_token_already_used"}, GrantRejected),
    ("supabase throttle", 429, {"error_code": "over_request_rate_limit"}, Transient),
    ("atlassian", 403, {"error": "invalid_grant"}, GrantRejected),
    ("atlassian secret", 403, {"error": "access_denied"}, ClientRejected),
    ("hydra", 400, {"error": "invalid_request", "error_hint": "Please retry"}, Transient),
    ("zoom", 400, {"reason": "Invalid Token!", "error": "invalid_request"}, RequestRejected),
    ("fitbit", 401, {"errors": [{"errorType": "invalid_grant"}]}, GrantRejected),
    ("fitbit doubt", 401, {"errors": [{"errorType": "expired_token"}]}, RequestRejected),
    ("meta", 400, {"error": {"type": "OAuthException", "code": 190}}, RequestRejected),
    (
        "withings dead",
        200,
        {"status": 503, "body": {}, "error": "Invalid Params: invalid refresh_token"},
        GrantRejected,
    ),
    (
        "atlassian dead",
        403,
        {"error": "unauthorized_client", "error_description": "refresh_token is invalid"},
        GrantRejected,
    ),
    (
        "entra gone",
        400,
        {
            "error": "unauthorized_client",
            "error_description": "AADSTS700016: Application not found",
        },
        ClientRejected,
    ),
    (
        "salesforce busy",
        400,
        {"error": "invalid_grant", "error_description": "token request is already being processed"},
        Transient,
    ),
    (
        "salesforce again",
        400,
        {"error": "unknown_error", "error_description": "retry your request"},
        Transient,
    ),
    (
        "exact",
        400,
        {
            "error": "access_denied",
            "error_description": "Rate limit exceeded: access_token not expired",
        },
        TooEarly,
    ),
    ("hh", 400, {"error": "invalid_grant", "error_description": "token not expired"}, TooEarly),
    (
        "apigee",
        401,
        {
            "fault": {
                "faultstring": "Invalid Refresh Token",
                "detail": {"errorcode": "keymanagement.service.invalid_refresh_token"},
            }
        },
        GrantRejected,
    ),
    ("coros", 200, {"result": "0000", "message": "OK"}, OutcomeUnknown),
    ("withings", 200, {"status": 401, "body": {}, "error": "invalid x"}, RequestRejected),
    ("withings silent", 200, {"status": 293, "body": {}}, OutcomeUnknown),
    ("twitch", 400, {"status": 400, "message": "Invalid refresh token"}, GrantRejected),
    ("strava", 400, {"message": "Bad Request", "errors": [{"code": "invalid"}]}, RequestRejected),
    ("entra", 400, {"error": "interaction_required"}, GrantRejected),
    ("salesforce", 400, {"error": "inactive_org"}, RequestRejected),
    ("google", 401, {"error": "deleted_client"}, ClientRejected),
    ("airtable conflict", 409, {"error": "invalid_grant"}, Transient),
    ("tiktok business", 200, {"code": 40105, "message": "x", "data": {}}, OutcomeUnknown),
]


def outcome_of(status: int, fields: dict[str, Any], **client: Any) -> Outcome:
    body = json.dumps(fields).encode()
    return classify(status, CIMultiDict[str](), body, make_client(**client), 1.8e9)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param(code, expected, id=f"{standard} {code}")
        for standard, codes in STANDARDS.items()
        for code, expected in codes.items()
    ],
)
def test_every_standard_code_is_known(code: str, expected: type[Any]) -> None:
    assert code in MEANINGS
    for status in (200, 400, 401, 403):
        assert type(outcome_of(status, {"error": code})) is expected


@pytest.mark.parametrize(
    ("status", "fields", "expected"), [row[1:] for row in VENDORS], ids=[row[0] for row in VENDORS]
)
def test_every_vendors_way_is_known(
    status: int, fields: dict[str, Any], expected: type[Any]
) -> None:
    assert type(outcome_of(status, fields)) is expected


@pytest.mark.parametrize(
    "fields",
    [
        {"message": "Login required"},
        {"error": "Login required"},
        {"error": "login_required"},
        {"error": "Token revoked"},
        {"message": "Account inactive"},
        {"code": "consent_required"},
        {"status": "interaction-required"},
        {"reason": "token_revoked"},
        {"error": "invalid_token"},
        {"error": "session_expired"},
    ],
    ids=lambda fields: str(*fields.items()),
)
@pytest.mark.parametrize("status", [200, 400, 401, 403])
def test_a_gateways_words_end_no_grant(status: int, fields: dict[str, Any]) -> None:
    assert not isinstance(outcome_of(status, fields), GrantRejected)


@pytest.mark.parametrize(
    "fields",
    [
        {"error": "Invalid Grant"},
        {"error": "invalid-grant"},
        {"message": "Refresh token expired"},
        {"error": "Bad Request", "message": "Invalid refresh token"},
        {"error_code": "refresh_token_not_found"},
    ],
    ids=lambda fields: str(*fields.items()) if len(fields) == 1 else "twitch",
)
def test_prose_that_names_the_refresh_token_counts(fields: dict[str, Any]) -> None:
    assert isinstance(outcome_of(400, fields), GrantRejected)


@pytest.mark.parametrize(
    "fields",
    [
        {"error": "invalid_grant", "error_codes": [50196]},
        {"error": "invalid_grant", "code": "50196"},
        {"error": {"code": "invalid_grant", "error_subcode": 50196}},
    ],
    ids=["entra", "beside", "meta"],
)
def test_the_clients_lists_win_wherever_the_code_stands(fields: dict[str, Any]) -> None:
    assert isinstance(outcome_of(400, fields), GrantRejected)
    assert isinstance(outcome_of(400, fields, transient_codes=("50196",)), Transient)
    assert isinstance(
        outcome_of(400, fields | {"error": "invalid_request"}, rejection_codes=("50196",)),
        GrantRejected if fields["error"] == "invalid_grant" else RequestRejected,
    )


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_failure_on_the_way_leaves_it_unknown(status: int) -> None:
    outcome = outcome_of(status, {"error": "server_error"})

    assert isinstance(outcome, OutcomeUnknown)
    assert outcome.body is None
