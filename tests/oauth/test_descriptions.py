"""What descriptions say, and all that sounds like it and is something else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from refresher.domain.outcomes import (
    ClientRejected,
    GrantRejected,
    Misconfigured,
    Outcome,
    OutcomeUnknown,
    RequestRejected,
    TooEarly,
    Transient,
)
from refresher.oauth.descriptions import LONGEST_DESCRIPTION, Prose, judge
from refresher.oauth.responses import classify
from tests.oauth.test_responses_fuzz import OUTCOMES, quick
from tests.oauth.world import make_client

SAYINGS: dict[Prose | None, tuple[str, ...]] = {
    Prose.BEING_PROCESSED: (
        "token request is already being processed",
        "A refresh is already in progress for this token.",
        "Concurrent refresh request",
        "concurrent token refresh detected",
        "Another request is already refreshing this token",
        "Refresh token is being used by another request",
        "could not acquire lock",
        "Request in progress",
    ),
    Prose.DEAD: (
        "Invalid Params: invalid refresh_token",
        "refresh_token is invalid",
        "Refresh token expired",
        "The refresh token has expired or is not valid",
        "refresh token has been revoked",
        "Unknown refresh token",
        "missing or invalid refresh token",
        "refresh token not found",
        "Refresh token is invalid, please try again",
        "Refresh token 'abc' does not exist",
        "The refreshToken is invalid",
        "refresh_token_expired",
        "missing or unknown refresh token",
        "refresh token was already used",
        "Refresh token invalid: abc. Visit https://dev.fitbit.com",
        "The refresh token passed is incorrect or expired.",
        "refresh token is invalid or revoked",
        "The refresh token is invalid; the access token is still valid",
        "invalid or expired refresh token",
        "no such refresh token",
    ),
    Prose.TOO_EARLY: (
        "Rate limit exceeded: access_token not expired",
        "token not expired",
        "Access token has not yet expired",
        "The access token hasn't expired yet",
        "token is still valid",
        "Access token still active, refresh not allowed",
        "Token refreshed too early",
        "Too soon to refresh",
        "the token cannot be refreshed yet",
        "You cannot refresh the token before it expires",
        "access token can only be refreshed after it has expired",
        "refresh is not needed",
        "accessTokenNotExpired",
        "token_still_valid",
        "The token is not yet eligible for refresh",
        "refresh token may be used only once; access token is still valid",
    ),
    Prose.LATER: (
        "system busy",
        "retry your request",
        "Please retry",
        "An error occurred, please try again later",
        "The service is temporarily unavailable.",
        "Too many requests",
        "temporarily blocked",
        "please try your request again",
        "Rate limit exceeded",
        "You have made too many requests continuously. Please try again after some time",
    ),
    None: (
        "please try to log in again",
        "The session expired. Please sign in and try again",
        "refresh token not expired",
        "Make sure the token is still valid",
        "Please check that your refresh token is still valid",
        "Token expired or not valid",
        "Token has been expired or revoked.",
        "Offline user session not found",
        "Stale token",
        "expired access/refresh token",
        "Correct the client_secret and try again.",
        "AADSTS70002: Error validating credentials. Correct the client_secret and try again",
        "You must refresh the token before it expires",
        "do not retry",
        "please try again with a valid refresh token",
        "in words",
        "Invalid client or refresh token",
        "Login required",
        "temporary code is invalid",
        "No refresh in progress",
        "unauthorized_client",
        "Concurrent login: session revoked",
        "concurrent request detected, tokens revoked",
        "Bad Request",
        "re-authorize the application and try again",
        "authorize the app again",
        "The refresh token is not invalid",
        "invalid_grant",
        "unsupported",
        "refresh_token parameter is required",
        "token was issued to another client",
    ),
}

CASES = [(text, prose) for prose, texts in SAYINGS.items() for text in texts]


def outcome_of(status: int, fields: object, **client: Any) -> Outcome:
    body = json.dumps(fields).encode()
    return classify(status, CIMultiDict[str](), body, make_client(**client), 1.8e9)


def said(text: str, code: str = "invalid_grant") -> dict[str, Any]:
    return {"error": code, "error_description": text}


@pytest.mark.parametrize(("text", "prose"), CASES, ids=[text for text, _ in CASES])
def test_each_saying_means_one_thing(text: str, prose: Prose | None) -> None:
    assert judge(text) is prose
    assert judge(text.upper()) is prose or text[0].islower()  # camelCase has no capitals
    assert judge(f"AADSTS1: {text}\r\nTrace ID: 1-2") is prose


@pytest.mark.parametrize(
    "fields",
    [
        {"error_description": "retry your request"},
        {"errorDescription": "retry your request"},
        {"error": "x", "message": "retry your request"},
        {"error": {"code": 1, "message": "retry your request"}},
        {"error": {"errors": [{"reason": "x", "message": "retry your request"}]}},
        {"errors": [{"errorType": "x", "message": "retry your request"}]},
        {"errors": ["retry your request"]},
        {"error": "retry your request"},
        {"Message": "retry your request"},
        {"msg": "retry your request"},
        {"errcode": 1, "errmsg": "retry your request"},
        {"title": "x", "detail": "retry your request"},
        {"error": "x", "details": [{"description": "retry your request"}]},
        {"fault": {"faultstring": "retry your request"}},
        {"error": "x", "error_message": "Retry\r\nyour  request"},
    ],
    ids=str,
)
@pytest.mark.parametrize("status", [200, 400, 401, 403])
def test_a_description_is_found_wherever_it_stands(fields: dict[str, Any], status: int) -> None:
    outcome = outcome_of(status, fields)
    if status == 200 and not any("err" in name or name == "fault" for name in fields):
        assert isinstance(outcome, OutcomeUnknown), "no error at all: it may have been served"
    else:
        assert outcome == Transient(reason="retry_later", status=status)


@pytest.mark.parametrize(
    "fields",
    [
        {"error": "x", "error_uri": "https://x.example/retry your request"},
        {"error": "x", "scope": "retry your request"},
        {"error": "x", "data": {"user": {"bio": "retry your request"}}},
        {"error": "x", "error_description": "x" * LONGEST_DESCRIPTION + " retry your request"},
        {"error": "x", "error_description": 17, "message": ["retry", "your request"]},
    ],
    ids=lambda fields: str(fields)[:50],
)
def test_no_description_is_read_elsewhere(fields: dict[str, Any]) -> None:
    assert isinstance(outcome_of(400, fields), RequestRejected)


CODES = [
    "invalid_grant",
    "invalid_request",
    "invalid_client",
    "access_denied",
    "invalid_scope",
    "x",
]


@pytest.mark.parametrize("code", CODES)
def test_some_sayings_count_whatever_the_code(code: str) -> None:
    for status in (200, 400, 401, 403):
        busy = outcome_of(status, said("token request is already being processed", code))
        assert busy == Transient(reason="being_processed", status=status)
        early = outcome_of(status, said("access_token not expired", code))
        assert early == TooEarly(error="too_early", status=status)
        later = outcome_of(status, said("Please try again later.", code))
        assert later == Transient(reason="retry_later", status=status)


def test_a_failure_on_the_way_stays_one_whatever_it_advises() -> None:
    outcome = outcome_of(400, said("Something failed, please try again", "server_error"))
    assert isinstance(outcome, OutcomeUnknown)
    assert isinstance(outcome_of(503, said("please try again", "x")), OutcomeUnknown)
    assert isinstance(outcome_of(500, said("token not expired", "x")), OutcomeUnknown)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x", GrantRejected(error="invalid_refresh_token", status=400, is_explained=True)),
        *(
            (code, GrantRejected(error=code, status=400, is_explained=True))
            for code in ("invalid_request", "invalid_token", "unauthorized_client", "access_denied")
        ),
        ("invalid_client", ClientRejected(error="invalid_client", status=400)),
        ("invalid_scope", Misconfigured(error="invalid_scope", status=400)),
        ("slow_down", Transient(reason="slow_down", status=400)),
        ("server_error", OutcomeUnknown(reason="server_error", status=400)),
    ],
)
def test_a_dead_refresh_token_counts_where_the_code_leaves_it_open(
    code: str, expected: Outcome
) -> None:
    assert outcome_of(400, said("The refresh_token is invalid or expired", code)) == expected


def test_the_clients_phrases_come_first() -> None:
    phrases: dict[str, Any] = {
        "transient_descriptions": ("offline user session",),
        "rejection_descriptions": ("user is suspended", "offline user"),
    }
    for code in CODES:
        assert outcome_of(
            400, said("Offline User SESSION not found", code), **phrases
        ) == Transient(reason="transient_descriptions", status=400)
        assert outcome_of(
            400, said("The user is suspended; being processed", code), **phrases
        ) == GrantRejected(error="rejection_descriptions", status=400, needs_person=True)
    assert isinstance(
        outcome_of(400, said("x", "zzz"), rejection_codes=("zzz",), **phrases), GrantRejected
    )
    assert outcome_of(
        400, {"error": "y", "message": "Kaputt_X"}, transient_descriptions=("kaputt_x",)
    ) == Transient(reason="transient_descriptions", status=400)


@pytest.mark.parametrize(
    "fields",
    [
        {"error": "invalid_grant", "error_codes": [50173]},
        {
            "error": "invalid_grant",
            "error_description": "AADSTS700082: The refresh token has expired",
        },
        {"error": "interaction_required", "error_description": "AADSTS50076: Due to a change"},
        {"error": "interaction_required"},
        {"error": "consent_required"},
    ],
    ids=str,
)
def test_what_only_a_person_can_answer_says_so(fields: dict[str, Any]) -> None:
    outcome = outcome_of(400, fields)
    assert isinstance(outcome, GrantRejected)
    assert outcome.needs_person


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"error": "invalid_grant", "error_codes": [70000]}, GrantRejected),
        ({"error": "invalid_grant", "error_codes": [50196, True, "50173", None]}, GrantRejected),
        ({"error": "invalid_grant", "error_description": "please log in again"}, GrantRejected),
        ({"error": "unauthorized_client", "error_codes": [700016]}, ClientRejected),
        ({"error": "unauthorized_client", "error_codes": [50057]}, ClientRejected),
        ({"error": "invalid_client", "error_description": "AADSTS7000215: x"}, ClientRejected),
    ],
    ids=str,
)
def test_anything_else_may_be_doubted(fields: dict[str, Any], expected: type[Any]) -> None:
    outcome = outcome_of(400, fields)
    assert type(outcome) is expected
    assert not getattr(outcome, "needs_person", False)


@quick
@given(
    st.recursive(
        st.text() | st.sampled_from([text for text, _ in CASES]) | st.integers() | st.none(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "errors", "message", "detail", "fault", "code", "title"]),
                inner,
                max_size=3,
            )
        ),
    ),
    st.sampled_from([200, 400, 403, 429, 500]),
)
def test_no_description_makes_it_raise_or_is_shown(fields: Any, status: int) -> None:
    outcome = outcome_of(status, {"error": "canary", "message": "canary", "errors": fields})
    assert isinstance(outcome, OUTCOMES)
    assert "canary" not in repr(outcome)
